# L-DIT on the generated data with sentences that mean several objects or none.
_base_ = [
    '../_base_/models/dit_sam_vit-t.py',
    '../_base_/datasets/gshapes.py',
    '../_base_/schedules/adamw_6e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size={{_base_.image_size}}),
    text_encoder=dict(model=dict(vocab_size=80), tokenizer={{_base_.vocabulary}}),
    # The threshold at which N-acc and T-acc are closest to each other on the validation part of the training data.
    decode_head=dict(type='GeneralizedSAMHead', no_target_threshold=0.18),
)
default_hooks = dict(checkpoint=dict(save_best='gIoU'))
