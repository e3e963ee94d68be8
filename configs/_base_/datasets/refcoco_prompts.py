# The objects of RefCOCO, prompted by a point or a box, with images resized as by SAM's own predictor: the long side to
# 1024, antialiased, by Pillow.
_base_ = './refcoco.py'

resize = dict(type='Resize', scale=(1024, 1024), keep_ratio=True, backend='pillow')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    resize,
    dict(type='ReferringFlip', prob=0.5),
    dict(type='SamplePrompts', box_prob=0.5),
    dict(type='PackReferringInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    # After the resize, so that the ground truth keeps the original size.
    dict(type='LoadReferringMask'),
    dict(type='SamplePrompts', box_prob=0.0, random=False),
    dict(type='PackReferringInputs'),
]
# For tools/test.py --tta: each of the scales, as it is and mirrored with its prompt.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(side, side), keep_ratio=True, backend='pillow') for side in (896, 1024)],
            [dict(type='LoadReferringMask')],
            [dict(type='SamplePrompts', box_prob=0.0, random=False)],
            [dict(type='ReferringFlip', prob=0.0), dict(type='ReferringFlip', prob=1.0)],
            [dict(type='PackReferringInputs')],
        ],
    ),
]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
