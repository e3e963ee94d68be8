# E-DIT, both encoders frozen, the instruction not, SAM's ViT-B, RefCOCO (Table 3).
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
model = dict(text_encoder=dict(frozen=True), backbone=dict(instruction=dict(type='EndToEndInstruction'), frozen=True))
