# L-DIT on the embedded data with sentences that mean several objects or none.
_base_ = ['../_base_/models/dit_sam_vit-t.py', '../_base_/datasets/gshapes.py', '../_base_/schedules/adamw_6e.py',
          '../_base_/default_runtime.py']
model = dict(
    text_encoder=dict(model=dict(vocab_size=80), tokenizer={{_base_.vocabulary}}),
    decode_head=dict(type='GeneralizedSAMHead'))
default_hooks = dict(checkpoint=dict(save_best='gIoU'))
