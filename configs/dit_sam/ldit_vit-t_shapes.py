# L-DIT on the generated data. Trains from random weights on two CPU cores or a GPU; the shipped weights are its result.
_base_ = [
    '../_base_/models/dit_sam_vit-t.py',
    '../_base_/datasets/shapes.py',
    '../_base_/schedules/adamw_6e.py',
    '../_base_/default_runtime.py',
]
model = dict(text_encoder=dict(model=dict(vocab_size=80), tokenizer={{_base_.vocabulary}}))
