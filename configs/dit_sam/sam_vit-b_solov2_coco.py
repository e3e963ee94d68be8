# COCO instances: mmdet's SOLOv2, which needs no compiled op, with SAM's ViT-B and a pyramid of its last map (ViTDet).
# Data as for mmdet: data/coco/{train2017,val2017,annotations}/
_base_ = 'mmdet::solov2/solov2_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['dit_sam'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(non_blocking=True),
    backbone=dict(
        _delete_=True,
        type='mmseg.SAMViT',
        arch='base',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam_vit_b_01ec64.pth'),
    ),
    # 16 / 4 = stride 4 to 16 / 0.25 = stride 64, as the five levels of the FPN there
    neck=dict(
        _delete_=True, type='mmseg.MultiLevelNeck', in_channels=[256], out_channels=256, scales=[4, 2, 1, 0.5, 0.25]
    ),
)
train_dataloader = dict(pin_memory=True)
val_dataloader = dict(pin_memory=True)
test_dataloader = dict(pin_memory=True)
