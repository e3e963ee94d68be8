# L-DIT with SAM's ViT-B and BERT-base at 512x512. The other schemes change `backbone.instruction`, other sizes `arch`.
model = dict(
    type='ReferringSegmentor',
    data_preprocessor=dict(type='ReferringDataPreProcessor', size=(512, 512)),
    text_encoder=dict(
        type='HuggingFaceTextEncoder',
        model=dict(model_type='bert'),
        tokenizer='bert-base-uncased',
        max_length=20,
        init_cfg=dict(type='Pretrained', checkpoint='bert-base-uncased'),
    ),
    backbone=dict(
        type='DITViT',
        arch='base',
        instruction=dict(type='LayerWiseInstruction', text_dims=768),
        # Every block attends globally, as in the released code: 512 / 16 = 32 x 32 tokens.
        windowed=False,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam_vit_b_01ec64.pth'),
    ),
    decode_head=dict(
        type='SAMHead',
        text_dims=768,
        threshold=0.35,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/sam_vit_b_01ec64.pth'),
    ),
)
