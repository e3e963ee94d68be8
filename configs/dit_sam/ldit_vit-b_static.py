# L-DIT, dynamic + static tokens, SAM's ViT-B, RefCOCO (Table 2).
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(instruction=dict(type='LayerWiseStaticInstruction')))
