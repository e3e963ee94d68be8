# L-DIT on the embedded data from the weights of sam_vit-t_shapes.py and of reproduction/pretrain_text_encoder.py: the
# paper's comparison in miniature. The other schemes are settings of reproduction/compare_schemes.py on top of it.
_base_ = [
    '../_base_/models/dit_sam_vit-t.py',
    '../_base_/datasets/shapes.py',
    '../_base_/schedules/adamw_6e.py',
    '../_base_/default_runtime.py',
]
sam = dict(type='Pretrained', checkpoint='work_dirs/sam_vit-t_shapes/epoch_6.pth')
model = dict(
    text_encoder=dict(
        model=dict(vocab_size=80),
        tokenizer={{_base_.vocabulary}},
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/text_encoder.safetensors'),
    ),
    # 144 / 16 = 9 x 9 tokens, SAM's patches
    backbone=dict(img_size=144, patch_size=16, init_cfg=sam),
    decode_head=dict(init_cfg=sam),
)
