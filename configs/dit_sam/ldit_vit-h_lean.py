# L-DIT, SAM's ViT-H, RefCOCO, for little GPU memory, with --amp: docs/training.md says what each setting saves.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_40e_groups.py',
    '../_base_/default_runtime.py',
]
sam = dict(checkpoint='checkpoints/sam_vit_h_4b8939.pth')
model = dict(backbone=dict(arch='huge', with_cp=True, init_cfg=sam), decode_head=dict(init_cfg=sam))
# 8 GPUs x 2 x 4 batches a step = 64
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(accumulative_counts=4)
# The averaged weights are kept in CPU memory, and the weights are copied there after every tenth step, which is every
# 40th batch: 1 - 0.9997^10 = 0.003. Without update_buffers, buffers would be copied after every batch.
custom_hooks = [dict(type='EMAHook', momentum=0.003, interval=40, device='cpu', update_buffers=True)]
# As in dit_25e.py.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=3, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin=3, end=25, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=25)
