# EVF-SAM (arXiv 2406.20076): BEiT-3-large reads the sentence together with the image at 224x224; its class token is the
# one prompt of SAM's mask decoder. SAM's ViT-H, frozen, sees the image alone, at 1024x1024 as SAM's own predictor: the
# long side resized by Pillow, the image in the upper left corner.
sam = dict(type='Pretrained', checkpoint='checkpoints/sam_vit_h_4b8939.pth')
model = dict(
    type='ReferringSegmentor',
    # The losses are at the size of the mask.
    data_preprocessor=dict(type='ReferringDataPreProcessor', size=(1024, 1024), place='corner', pad_masks=False),
    text_encoder=dict(
        type='BEiT3TextEncoder',
        arch='large',
        img_size=224,
        # A folder with sentencepiece.bpe.model and tokenizer_config.json works too.
        tokenizer='YxZhang/evf-sam',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/beit3_large_patch16_224.pth'),
    ),
    backbone=dict(type='DITViT', arch='huge', frozen=True, init_cfg=sam),
    decode_head=dict(type='EVFSAMHead', text_dims=1024, init_cfg=sam),
)
