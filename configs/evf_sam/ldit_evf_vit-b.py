# L-DIT instructed by BEiT-3-base: the text tokens that SAM gets have already attended to the image.
# Trained as configs/dit_sam/ldit_vit-b.py.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco_text_image.py',
    '../_base_/schedules/dit_40e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    text_encoder=dict(
        _delete_=True,
        type='BEiT3TextEncoder',
        arch='base',
        img_size=224,
        tokenizer='YxZhang/evf-sam',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/beit3_base_patch16_224.pth'),
    )
)
