# L-DIT, SAM's ViT-B, RefCOCOg (umd).
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcocog.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
