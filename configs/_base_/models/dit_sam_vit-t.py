# L-DIT small enough for two CPU cores: 3.8 M parameters, from random weights, with its own text encoder.
# Configs that use it set the vocabulary (`tokenizer`, `vocab_size`) and the image size.
model = dict(
    type='ReferringSegmentor',
    data_preprocessor=dict(type='ReferringDataPreProcessor', size=(144, 144)),
    text_encoder=dict(
        type='HuggingFaceTextEncoder',
        model=dict(
            model_type='bert',
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        max_length=20,
    ),
    backbone=dict(
        type='DITViT',
        arch='tiny',
        img_size=96,
        # 144 / 8 = 18 x 18 tokens with global attention. The position map has the 12 x 12 entries of a first training
        # at 96 pixels and is resized.
        patch_size=8,
        windowed=False,
        mlp_ratio=3,
        out_channels=128,
        instruction=dict(type='LayerWiseInstruction', text_dims=128, dropout=0.0),
    ),
    decode_head=dict(
        type='SAMHead',
        in_channels=128,
        text_dims=128,
        mlp_dim=256,
        iou_head_hidden_dim=128,
        threshold=0.5,
        # The paper trains with binary cross-entropy alone, from SAM's weights. From random weights, adding Dice finds
        # small objects sooner.
        loss_decode=[
            dict(type='BinaryCrossEntropyLoss', loss_weight=5.0),
            dict(type='BinaryDiceLoss', loss_weight=1.0),
        ],
    ),
)
