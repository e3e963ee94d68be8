# L-DIT instructed by BEiT-3-large, SAM's ViT-H. Trained as configs/dit_sam/ldit_vit-h.py.
_base_ = [
    '../_base_/models/dit_sam_vit-b.py',
    '../_base_/datasets/refcoco_text_image.py',
    '../_base_/schedules/dit_25e.py',
    '../_base_/default_runtime.py',
]
sam = dict(checkpoint='checkpoints/sam_vit_h_4b8939.pth')
model = dict(
    text_encoder=dict(
        _delete_=True,
        type='BEiT3TextEncoder',
        arch='large',
        img_size=224,
        tokenizer='YxZhang/evf-sam',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/beit3_large_patch16_224.pth'),
    ),
    backbone=dict(arch='huge', instruction=dict(text_dims=1024), init_cfg=sam),
    decode_head=dict(text_dims=1024, init_cfg=sam),
)
