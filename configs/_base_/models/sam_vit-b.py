# SAM's ViT-B as its own predictor runs it, without text: from points and a box to one mask. Differences from DIT: the
# image's long side is 1024 and the image is placed in the upper left corner (refcoco_prompts.py has the resize), blocks
# attend in windows, masks are enlarged without aligned corners and thresholded at a probability of 0.5, and points are
# scaled with the image.
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
