# L-DIT, SAM's ViT-H, RefCOCO, by DeepSpeed's ZeRO (`pip install deepspeed`), see docs/distributed.md.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_25e.py',
    '../_base_/default_runtime.py',
]
sam = dict(checkpoint='checkpoints/sam_vit_h_4b8939.pth')
model = dict(backbone=dict(arch='huge', init_cfg=sam), decode_head=dict(init_cfg=sam))

runner_type = 'FlexibleRunner'
strategy = dict(
    type='ResumableDeepSpeedStrategy',
    # Stage 2 shards gradients and optimizer states; stage 3 also shards the weights.
    zero_optimization=dict(stage=2, overlap_comm=True),
    gradient_clipping=0.15,
    # Like --amp elsewhere: float32 weights, computation in bfloat16.
    config=dict(torch_autocast=dict(enabled=True, dtype='bfloat16')),
)
optim_wrapper = dict(
    _delete_=True,
    type='CountedDeepSpeedOptimWrapper',
    optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.98), eps=1e-9),
)
custom_hooks = []
