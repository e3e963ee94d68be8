# L-DIT, SAM's ViT-B, RefCOCO, RefCOCO+ and RefCOCOg together; not in the paper.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco_joint.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
