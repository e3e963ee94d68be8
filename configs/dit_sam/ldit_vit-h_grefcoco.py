# L-DIT, SAM's ViT-H, gRefCOCO.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/grefcoco.py',
    '../_base_/schedules/dit_25e.py',
    '../_base_/default_runtime.py',
]
sam = dict(checkpoint='checkpoints/sam_vit_h_4b8939.pth')
# GeneralizedSAMHead makes one more decision: does the sentence have no target in the image?
model = dict(backbone=dict(arch='huge', init_cfg=sam), decode_head=dict(type='GeneralizedSAMHead', init_cfg=sam))
default_hooks = dict(checkpoint=dict(save_best='gIoU'))
