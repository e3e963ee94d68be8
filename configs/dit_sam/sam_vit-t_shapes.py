# SAM without text, class-agnostic, on the generated data: from a point or a box to the mask. The schemes start from its
# weights in docs/reproduction.md, as the paper's start from SAM's.
_base_ = [
    '../_base_/models/dit_sam_vit-t.py',
    '../_base_/datasets/shapes.py',
    '../_base_/schedules/adamw_6e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    text_encoder=None,
    # 144 / 16 = 9 x 9 tokens, SAM's patches
    backbone=dict(instruction=None, img_size=144, patch_size=16),
    decode_head=dict(text_dims=None, spatial_prompts=True),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    dict(type='ReferringResize', scale={{_base_.image_size}}, keep_ratio=True),
    dict(type='ReferringFlip', prob=0.5),
    dict(type='SamplePrompts', box_prob=0.5),
    dict(type='PackReferringInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale={{_base_.image_size}}, keep_ratio=True),
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
            [dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (128, 144)],
            [dict(type='LoadReferringMask')],
            [dict(type='SamplePrompts', box_prob=0.0, random=False)],
            [dict(type='ReferringFlip', prob=0.0), dict(type='ReferringFlip', prob=1.0)],
            [dict(type='PackReferringInputs')],
        ],
    ),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
