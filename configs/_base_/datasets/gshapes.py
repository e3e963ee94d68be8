# The generated data with sentences that mean several objects or none, in gRefCOCO's form:
# python tools/dataset_converters/shapes.py --generalized --out data/gshapes
#   data/gshapes/images/
#   data/gshapes/gshapes/{instances.json, grefs(unc).json}
_base_ = './shapes.py'

image_size = (128, 128)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    dict(type='ReferringResize', scale=image_size, keep_ratio=True),
    dict(type='ReferringFlip', prob=0.5),
    dict(type='PackReferringInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadReferringMask'),
    dict(type='PackReferringInputs'),
]
# For tools/test.py --tta: each of the scales, as it is and mirrored.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (112, 128)],
            [dict(type='ReferringFlip', prob=0.0), dict(type='ReferringFlip', prob=1.0)],
            [dict(type='LoadReferringMask')],
            [dict(type='PackReferringInputs')],
        ],
    ),
]
files = dict(
    type='GRefCOCODataset',
    data_root='data/gshapes/',
    ann_file='gshapes/instances.json',
    refs_file='gshapes/grefs(unc).json',
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, **files))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **files))
test_dataloader = val_dataloader

val_evaluator = dict(generalized=True)
test_evaluator = val_evaluator
