# L-DIT, SAM's ViT-H, RefCOCO, with Dice beside BCE and a predicted IoU: docs/reproduction.md, "Additions to L-DIT".
_base_ = [
    '../_base_/models/dit_sam_vit-b_plus.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_25e.py',
    '../_base_/default_runtime.py',
]
sam = dict(checkpoint='checkpoints/sam_vit_h_4b8939.pth')
model = dict(backbone=dict(arch='huge', init_cfg=sam), decode_head=dict(init_cfg=sam))
