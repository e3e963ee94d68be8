# Text in the mask decoder only, which has 6 blocks in place of 2, SAM's ViT-B, RefCOCO (Table 1).
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_25e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(instruction=None), decode_head=dict(depth=6))
