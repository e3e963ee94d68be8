# SAM's ViT-B, prompted by points and boxes as in its own predictor.
_base_ = [
    '../_base_/models/sam_vit-b.py',
    '../_base_/datasets/refcoco_prompts.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
