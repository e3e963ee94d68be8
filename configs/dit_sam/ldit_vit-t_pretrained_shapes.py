# L-DIT on the generated data from the weights of sam_vit-t_shapes.py and of reproduction/pretrain_text_encoder.py: the
# paper's comparison in miniature. The other schemes, and additions that may lift L-DIT, are settings of
# reproduction/compare_schemes.py on top of it.
_base_ = [
    '../_base_/models/dit_sam_vit-t.py',
    '../_base_/datasets/shapes.py',
    '../_base_/schedules/adamw_6e.py',
    '../_base_/default_runtime.py',
]
sam = dict(type='Pretrained', checkpoint='work_dirs/sam_vit-t_shapes/epoch_6.pth')
model = dict(
    # Off, with a probability of 0: a mosaic of four images, and masked patches in the pipeline.
    data_preprocessor=dict(batch_augments=[dict(type='BatchMosaic', prob=0.0)]),
    text_encoder=dict(
        model=dict(vocab_size=80),
        tokenizer={{_base_.vocabulary}},
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/text_encoder.safetensors'),
    ),
    # 144 / 16 = 9 x 9 tokens, SAM's patches
    backbone=dict(img_size=144, patch_size=16, init_cfg=sam),
    decode_head=dict(init_cfg=sam),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    dict(type='ReferringResize', scale={{_base_.image_size}}, keep_ratio=True),
    dict(type='ReferringFlip', prob=0.5),
    # Holes of the size of a patch, in the mean color of the data preprocessor, in BGR.
    dict(type='RandomCutOut', prob=0.0, n_holes=(4, 16), cutout_shape=(16, 16), fill_in=(104, 116, 124)),
    dict(type='PackReferringInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
