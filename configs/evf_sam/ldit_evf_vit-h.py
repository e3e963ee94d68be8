# L-DIT instructed by BEiT-3-large, SAM's ViT-H.
_base_ = './ldit_evf_vit-b.py'
sam = dict(checkpoint='checkpoints/sam_vit_h_4b8939.pth')
model = dict(
    text_encoder=dict(arch='large', init_cfg=dict(checkpoint='checkpoints/beit3_large_patch16_224.pth')),
    backbone=dict(arch='huge', instruction=dict(text_dims=1024), init_cfg=sam),
    decode_head=dict(text_dims=1024, init_cfg=sam),
)
# As configs/dit_sam/ldit_vit-h.py.
train_cfg = dict(max_epochs=25)
