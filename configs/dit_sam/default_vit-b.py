# Text in the mask decoder only, the paper's default scheme, SAM's ViT-B, RefCOCO.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_25e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(instruction=None))
