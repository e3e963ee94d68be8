# The generated data: python tools/dataset_converters/shapes.py --out data/shapes
#   data/shapes/images/
#   data/shapes/shapes/{instances.json, refs(unc).p}
dataset_type = 'RefCOCODataset'
data_root = 'data/shapes/'
images = dict(img_path='images/')
image_size = (144, 144)
# The words of the grammar, `dit_sam.datasets.shapes.GENERALIZED_VOCABULARY`, for the text encoder. Those of the last
# line are for gshapes.py.
vocabulary = (
    '[PAD] [UNK] [CLS] [SEP] circle square triangle star cross red green blue yellow purple orange white black '
    'plain striped dotted stripes dots small little large big thing one object shape leftmost furthest to the '
    'left on far rightmost right topmost highest at very top lowest bottommost bottom biggest largest smallest of '
    'above higher than below lower under beneath a an that is and with '
    'circles squares triangles stars crosses things ones objects shapes all every each both two three are'
).split()

# No color jitter and no blur, because the sentences distinguish objects by color and texture.
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
            [dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (128, 144)],
            [dict(type='ReferringFlip', prob=0.0), dict(type='ReferringFlip', prob=1.0)],
            [dict(type='LoadReferringMask')],
            [dict(type='PackReferringInputs')],
        ],
    ),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='ResumableSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='shapes/instances.json',
        refs_file='shapes/refs(unc).p',
        split='train',
        data_prefix=images,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    # The sentences of an image follow each other, so that it is read, resized and embedded once.
    batch_sampler=dict(type='ImageBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='shapes/instances.json',
        refs_file='shapes/refs(unc).p',
        split='val',
        data_prefix=images,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='ReferringIoU', group_by='kind')
test_evaluator = val_evaluator
