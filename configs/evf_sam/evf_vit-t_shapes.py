# EVF-SAM on the generated data, from random weights: SAM's encoder trains too, as there is no SAM to start from.
_base_ = [
    '../_base_/models/evf_sam_vit-t.py',
    '../_base_/datasets/shapes_text_image.py',
    '../_base_/schedules/adamw_6e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(pad_masks=False),
    text_encoder=dict(vocab_size=80, tokenizer={{_base_.vocabulary}}),
    backbone=dict(instruction=None),
    decode_head=dict(type='EVFSAMHead', align_corners=False),
)
