_base_ = '../configs/_base_/default_runtime.py'
custom_imports = dict(imports=['dit_sam', 'toy_project'])

model = dict(type='ToyModel')
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(type='ToyDataset'), sampler=dict(type='DefaultSampler', shuffle=True)
)
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(type='ToyDataset', test_mode=True),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
# The ranks of the tests have a current folder each.
val_evaluator = dict(type='ToyMetric', collect_device='gpu')
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[2])]
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
randomness = dict(seed=0)
