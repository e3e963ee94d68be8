# A small BEiT-3 in place of BERT in dit_sam_vit-t.py. Configs that use it set the vocabulary (`tokenizer`,
# `vocab_size`).
_base_ = './dit_sam_vit-t.py'
model = dict(
    text_encoder=dict(
        _delete_=True,
        type='BEiT3TextEncoder',
        # 72 / 8 = 9 x 9 patches.
        arch=dict(embed_dims=128, depth=4, num_heads=4, hidden_dims=512),
        img_size=72,
        patch_size=8,
        max_positions=32,
    )
)
