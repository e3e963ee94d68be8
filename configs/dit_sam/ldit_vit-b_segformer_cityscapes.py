# Cityscapes: mmseg's SegFormer with the backbone changed to SAM's ViT-B, whose instruction names the classes.
# Data as for mmseg: data/cityscapes/{leftImg8bit,gtFine}/{train,val}/
_base_ = 'mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py'
custom_imports = dict(imports=['dit_sam'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type='StandaloneDITViT',
        arch='base',
        out_indices=(2, 5, 8, 11),
        instruction=dict(type='LayerWiseInstruction', text_dims=768),
        text='road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, '
        'person, rider, car, truck, bus, train, motorcycle, bicycle',
        text_encoder=dict(
            type='HuggingFaceTextEncoder',
            max_length=48,
            frozen=True,
            init_cfg=dict(type='Pretrained', checkpoint='bert-base-uncased'),
        ),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam_vit_b_01ec64.pth'),
    ),
    # 256 channels after SAM's neck
    decode_head=dict(in_channels=[256, 256, 256, 256]),
)
train_dataloader = dict(pin_memory=True)
val_dataloader = dict(pin_memory=True)
test_dataloader = dict(pin_memory=True)
