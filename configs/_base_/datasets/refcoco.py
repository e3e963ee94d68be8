# RefCOCO at 512x512 as in the paper. The files are placed as for mmdet and mmpretrain:
#   data/coco/train2014/                   the images, COCO train2014 (train2017 works too, README.md says how)
#   data/coco/refcoco/{instances.json, refs(unc).p}
#   data/coco/refcoco+/{instances.json, refs(unc).p}
#   data/coco/refcocog/{instances.json, refs(umd).p, refs(google).p}
# Another split: --cfg-options test_dataloader.dataset.split=testA
dataset_type = 'RefCOCODataset'
data_root = 'data/coco/'
images = dict(img_path='train2014/')

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    dict(type='ReferringColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, prob=0.8),
    # The paper names it; the released settings have none.
    dict(type='RandomGaussianBlur', sigma=(0.1, 2.0), prob=0.5),
    # The long side is one of 512, 480, ..., 320; the data preprocessor pads to 512x512.
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
            [dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (448, 512)],
            [dict(type='ReferringFlip', prob=0.0), dict(type='ReferringFlip', prob=1.0)],
            [dict(type='LoadReferringMask')],
            [dict(type='PackReferringInputs')],
        ],
    ),
]

# 8 GPUs x 8 = the batch of 64 in the paper.
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='ResumableSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='refcoco/instances.json',
        refs_file='refcoco/refs(unc).p',
        split='train',
        data_prefix=images,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    # The sentences of an image follow each other, so that it is read, resized and embedded once.
    batch_sampler=dict(type='ImageBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='refcoco/instances.json',
        refs_file='refcoco/refs(unc).p',
        split='val',
        data_prefix=images,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='ReferringIoU')
test_evaluator = val_evaluator
