# L-DIT, SAM's ViT-B, RefCOCO, with text from block 8 on: the blocks before it run once for all sentences of an image.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(instruction=dict(start=8)))
