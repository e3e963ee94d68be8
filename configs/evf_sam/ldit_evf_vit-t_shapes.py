# L-DIT instructed by a small BEiT-3 on the embedded data, from random weights.
_base_ = '../dit_sam/ldit_vit-t_shapes.py'
text_image = dict(type='AddTextEncoderImage', size=72)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    dict(type='ReferringFlip', prob=0.5),
    text_image,
    dict(type='Resize', scale={{_base_.image_size}}, keep_ratio=True),
    dict(type='PackReferringInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    text_image,
    dict(type='Resize', scale={{_base_.image_size}}, keep_ratio=True),
    # After the resize, so that the ground truth keeps the original size.
    dict(type='LoadReferringMask'),
    dict(type='PackReferringInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    text_image,
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
model = dict(
    text_encoder=dict(
        _delete_=True,
        type='BEiT3TextEncoder',
        # 72 / 8 = 9 x 9 patches.
        arch=dict(embed_dims=128, depth=4, num_heads=4, hidden_dims=512),
        img_size=72,
        patch_size=8,
        vocab_size=80,
        max_positions=32,
        tokenizer={{_base_.vocabulary}},
    )
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
