# A small L-DIT on RefCOCO from random weights: to try a machine or a change on photographs, not to reach good scores.
# Its words come from the data: python tools/dataset_converters/vocabulary.py "REFS" --out data/coco/vocab.txt
_base_ = ['../_base_/models/dit_sam_vit-t.py', '../_base_/datasets/refcoco.py', '../_base_/default_runtime.py']
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    text_encoder=dict(model=dict(vocab_size=8192), tokenizer='data/coco/vocab.txt'),
    backbone=dict(img_size=128),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    dict(type='ReferringResize', scale=(128, 128), keep_ratio=True),
    dict(type='ReferringFlip', prob=0.5),
    dict(type='PackReferringInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
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
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='GuardedOptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.98), weight_decay=0.02),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100)]
train_cfg = dict(type='ResumableTrainLoop', max_epochs=10, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
