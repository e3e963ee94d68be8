# The generated data as in shapes.py, with the image for a text encoder that reads the sentence together with it.
_base_ = './shapes.py'

text_image = dict(type='AddTextEncoderImage', size=72)
resize = dict(type='Resize', scale={{_base_.image_size}}, keep_ratio=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    text_image,
    dict(resize, type='ReferringResize'),
    dict(type='ReferringFlip', prob=0.5),
    dict(type='PackReferringInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    text_image,
    resize,
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
            [dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (128, 144)],
            [dict(type='ReferringFlip', prob=0.0), dict(type='ReferringFlip', prob=1.0)],
            [dict(type='LoadReferringMask')],
            [dict(type='PackReferringInputs')],
        ],
    ),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
