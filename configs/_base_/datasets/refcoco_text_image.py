# RefCOCO as in refcoco.py, with the image for a text encoder that reads the sentence together with it.
_base_ = './refcoco.py'

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
        resize_type='ReferringResize',
    ),
    dict(type='ReferringFlip', prob=0.5),
    dict(type='PackReferringInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    text_image,
    dict(type='Resize', scale=(512, 512), keep_ratio=True),
    # After the resize, so that the ground truth keeps the original size.
    dict(type='LoadReferringMask'),
    dict(type='PackReferringInputs'),
]
# For tools/test.py --tta: each of the scales, as it is and mirrored.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [text_image],
            [dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (448, 512)],
            [dict(type='ReferringFlip', prob=0.0), dict(type='ReferringFlip', prob=1.0)],
            [dict(type='LoadReferringMask')],
            [dict(type='PackReferringInputs')],
        ],
    ),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
