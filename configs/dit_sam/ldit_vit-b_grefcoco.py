# L-DIT, SAM's ViT-B, gRefCOCO.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/grefcoco.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
# One more decision: does the sentence have no target in the image?
model = dict(decode_head=dict(type='GeneralizedSAMHead'))
default_hooks = dict(checkpoint=dict(save_best='gIoU'))
