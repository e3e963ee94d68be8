# Text in the mask decoder only, which has 4 blocks in place of 2; frozen image encoder, SAM's ViT-B, RefCOCO (Table 1).
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_25e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(instruction=None, frozen=True), decode_head=dict(depth=4))
