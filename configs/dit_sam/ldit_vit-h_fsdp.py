# L-DIT, SAM's ViT-H, RefCOCO; weights, gradients and optimizer states in shards over the GPUs, see docs/distributed.md.
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
    type='ResumableFSDPStrategy',
    # One checkpoint, like that of an unsharded training: tools/test.py reads it, and any number of GPUs resumes it.
    state_dict_cfg='full',
    model_wrapper=dict(
        type='MMFullyShardedDataParallel', use_orig_params=True, auto_wrap_policy=dict(type='wrap_instructed_blocks')
    ),
)
# mmengine's EMAHook copies the model before it is in shards, and cannot follow it.
custom_hooks = []
