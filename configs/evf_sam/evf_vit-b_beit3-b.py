# EVF-SAM with SAM's ViT-B and BEiT-3-base, a quarter of the parameters.
_base_ = [
    '../_base_/models/evf_sam_vit-h.py',
    '../_base_/datasets/refcoco_evf.py',
    '../_base_/schedules/adamw_15k.py',
    '../_base_/default_runtime.py',
]
sam = dict(checkpoint='checkpoints/sam_vit_b_01ec64.pth')
model = dict(
    text_encoder=dict(arch='base', init_cfg=dict(checkpoint='checkpoints/beit3_base_patch16_224.pth')),
    backbone=dict(arch='base', init_cfg=sam),
    decode_head=dict(text_dims=768, init_cfg=sam),
)
