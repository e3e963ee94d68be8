# L-DIT, SAM's ViT-B, RefCOCO from the files that tools/dataset_converters/refcoco.py writes; the items are the same.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco_prepared.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
