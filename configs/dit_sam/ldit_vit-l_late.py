# L-DIT, SAM's ViT-L, RefCOCO, with text from block 16 on: the blocks before it run once for all sentences of an image.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
sam = dict(checkpoint='checkpoints/sam_vit_l_0b3195.pth')
model = dict(backbone=dict(instruction=dict(start=16), arch='large', init_cfg=sam), decode_head=dict(init_cfg=sam))
