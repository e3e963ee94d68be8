# RefCLEF, RefCOCO, RefCOCO+ and RefCOCOg (umd) together, a quarter of the images each, as EVF-SAM is trained, without
# augmentation. An item is an image with up to three of its sentences. EVF-SAM trains on all images of the four train
# splits; here those are left out that are in a val or test split of another set: no score is of a training image.
# Files as in refcoco.py, and for RefCLEF:
#   data/coco/saiapr_tc-12/                      the images
#   data/coco/refclef/{instances.json, refs(unc).p}
_base_ = './refcoco.py'

text_image = dict(type='AddTextEncoderImage', size=224)
resize = dict(type='Resize', scale=(1024, 1024), keep_ratio=True, backend='pillow')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    text_image,
    resize,
    # After the resize, so that the mask keeps the original size.
    dict(type='LoadReferringMask'),
    dict(type='PackReferringInputs'),
]
train_pipeline = test_pipeline
# For tools/test.py --tta: each of the scales, as it is and mirrored.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [text_image],
            [dict(type='Resize', scale=(side, side), keep_ratio=True, backend='pillow') for side in (896, 1024)],
            [dict(type='ReferringFlip', prob=0.0), dict(type='ReferringFlip', prob=1.0)],
            [dict(type='LoadReferringMask')],
            [dict(type='PackReferringInputs')],
        ],
    ),
]

# RefCLEF's images are not COCO's, and their numbers mean other images.
held_out = ['refcoco/refs(unc).p', 'refcoco+/refs(unc).p', 'refcocog/refs(umd).p']
part = dict(
    type='RefCOCODataset',
    data_root={{_base_.data_root}},
    split='train',
    data_prefix={{_base_.images}},
    filter_cfg=dict(evaluation_images=held_out),
    sentences_per_image=3,
    pipeline=train_pipeline,
)
# 8 GPUs x 16 images; an epoch is 1,000 steps of 128.
train_dataloader = dict(
    batch_size=16,
    collate_fn=dict(type='flatten_collate'),
    sampler=dict(_delete_=True, type='WeightedConcatSampler', weights=[1, 1, 1, 1], epoch_size=128_000),
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                part,
                ann_file='refclef/instances.json',
                refs_file='refclef/refs(unc).p',
                data_prefix=dict(img_path='saiapr_tc-12/'),
                filter_cfg=dict(evaluation_images=['refclef/refs(unc).p']),
            ),
            dict(part, ann_file='refcoco/instances.json', refs_file='refcoco/refs(unc).p'),
            dict(part, ann_file='refcoco+/instances.json', refs_file='refcoco+/refs(unc).p'),
            dict(part, ann_file='refcocog/instances.json', refs_file='refcocog/refs(umd).p'),
        ],
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
