# L-DIT, SAM's ViT-B, RefCOCO, with Dice beside BCE and a predicted IoU: docs/reproduction.md, "Additions to L-DIT".
_base_ = [
    '../_base_/models/dit_sam_vit-b_plus.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
