# ADE20K: mmseg's UPerNet for MAE's ViT-B with the backbone changed to SAM's ViT-B under one fixed instruction.
# Data as for mmseg: data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/
_base_ = 'mmseg::mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py'
custom_imports = dict(imports=['dit_sam'], allow_failed_imports=False)
model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='StandaloneDITViT',
        arch='base',
        # The tokens of four blocks as they are, 768 channels each; Feature2Pyramid makes strides 4, 8, 16, 32 of them.
        out_channels=0,
        out_indices=(2, 5, 8, 11),
        instruction=dict(type='LayerWiseInstruction', text_dims=768),
        text='a scene with wall, building, sky, floor, tree, ceiling, road and bed',
        text_encoder=dict(
            type='HuggingFaceTextEncoder', frozen=True, init_cfg=dict(type='Pretrained', checkpoint='bert-base-uncased')
        ),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam_vit_b_01ec64.pth'),
    ),
)
train_dataloader = dict(pin_memory=True)
val_dataloader = dict(pin_memory=True)
test_dataloader = dict(pin_memory=True)
optim_wrapper = dict(constructor='SAMLayerDecayConstructor')
