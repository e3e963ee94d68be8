# SAM's ViT-B as its own predictor runs it, without text: from points and a box to one mask. What differs from DIT: the
# picture's long side is 1024 and it lies in the upper left corner (refcoco_prompts.py has the resize), blocks attend in
# windows, masks are enlarged without aligned corners and cut at a probability of 0.5, and a point is scaled with the
# picture.
model = dict(
    type='ReferringSegmentor',
    data_preprocessor=dict(type='ReferringDataPreProcessor', size=(1024, 1024), place='corner'),
    scaled_points=True,
    backbone=dict(
        type='DITViT', arch='base', init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam_vit_b_01ec64.pth')
    ),
    decode_head=dict(
        type='SAMHead',
        text_dims=None,
        spatial_prompts=True,
        threshold=0.5,
        align_corners=False,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam_vit_b_01ec64.pth'),
    ),
)
