# For the small models on the generated data, from random weights.
optim_wrapper = dict(
    type='GuardedOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=6, eta_min_ratio=0.01, convert_to_iter_based=True),
]
train_cfg = dict(type='ResumableTrainLoop', max_epochs=6, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# The learning rate is for a batch of 32; --cfg-options auto_scale_lr.enable=True adapts it to others.
auto_scale_lr = dict(enable=False, base_batch_size=32)
