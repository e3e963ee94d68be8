# SAM's ViT-L, prompted by points and boxes as in its own predictor.
_base_ = [
    '../_base_/models/sam_vit-b.py',
    '../_base_/datasets/refcoco_prompts.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
sam = dict(checkpoint='checkpoints/sam_vit_l_0b3195.pth')
model = dict(backbone=dict(arch='large', init_cfg=sam), decode_head=dict(init_cfg=sam))
