# L-DIT, both encoders with LoRA, SAM's ViT-B, RefCOCO; not in the paper. Needs peft: pip install "dit-sam[lora]".
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    # 12 x 2 x 8 x (768 + 768) = 0.29 M weights in addition to BERT's.
    text_encoder=dict(lora=dict(r=8, lora_alpha=16, target_modules=['query', 'value'])),
    # 12 x 8 x (4 + 2 + 5 + 5) x 768 = 1.18 M weights in addition to SAM's.
    backbone=dict(lora=dict(r=8, lora_alpha=16, target_modules=['qkv', 'proj', 'lin1', 'lin2'])),
)
