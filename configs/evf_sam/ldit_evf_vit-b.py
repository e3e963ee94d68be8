# L-DIT instructed by BEiT-3: the text tokens that SAM's encoder and decoder get have already attended to the image.
# Training as in configs/dit_sam/ldit_vit-b.py.
_base_ = '../dit_sam/ldit_vit-b.py'
text_image = dict(type='AddTextEncoderImage', size=224)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    dict(type='ReferringColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, prob=0.8),
    dict(type='RandomGaussianBlur', sigma=(0.1, 2.0), prob=0.5),
    text_image,
    dict(
        type='RandomChoiceResize',
        scales=[(512, 512), (480, 480), (448, 448), (416, 416), (384, 384), (352, 352), (320, 320)],
        keep_ratio=True,
    ),
    dict(type='ReferringFlip', prob=0.5),
    dict(type='PackReferringInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    text_image,
    dict(type='Resize', scale=(512, 512), keep_ratio=True),
    dict(type='LoadReferringMask'),
    dict(type='PackReferringInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    text_image,
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (448, 512)],
            [dict(type='ReferringFlip', prob=0.0), dict(type='ReferringFlip', prob=1.0)],
            [dict(type='LoadReferringMask')],
            [dict(type='PackReferringInputs')],
        ],
    ),
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
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
