# L-DIT by cross-attention, SAM's ViT-B, RefCOCO (Table 4).
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(instruction=dict(type='CrossAttentionInstruction')))
