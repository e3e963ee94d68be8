# EVF-SAM with SAM's ViT-B and BEiT-3-base, 1/4 of the parameters.
_base_ = './evf_vit-h_beit3-l.py'
sam = dict(checkpoint='checkpoints/sam_vit_b_01ec64.pth')
model = dict(
    text_encoder=dict(arch='base', init_cfg=dict(checkpoint='checkpoints/beit3_base_patch16_224.pth')),
    backbone=dict(arch='base', init_cfg=sam),
    decode_head=dict(text_dims=768, init_cfg=sam),
)
