# L-DIT instructed by a small BEiT-3 on the generated data, from random weights.
_base_ = [
    '../_base_/models/evf_sam_vit-t.py',
    '../_base_/datasets/shapes_text_image.py',
    '../_base_/schedules/adamw_6e.py',
    '../_base_/default_runtime.py',
]
model = dict(text_encoder=dict(vocab_size=80, tokenizer={{_base_.vocabulary}}))
