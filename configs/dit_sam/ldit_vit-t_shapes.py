# L-DIT on the embedded data. Trains from random weights on two CPU cores or a GPU; the shipped weights are its result.
_base_ = ['../_base_/models/dit_sam_vit-t.py', '../_base_/datasets/shapes.py', '../_base_/default_runtime.py']
# The words of the grammar, `dit_sam.datasets.shapes.VOCABULARY`.
vocabulary = (
    '[PAD] [UNK] [CLS] [SEP] circle square triangle star cross red green blue yellow purple orange white black '
    'plain striped dotted stripes dots small little large big thing one object shape leftmost furthest to the '
    'left on far rightmost right topmost highest at very top lowest bottommost bottom biggest largest smallest of '
    'above higher than below lower under beneath a an that is and with').split()
model = dict(text_encoder=dict(model=dict(vocab_size=64), tokenizer=vocabulary))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=6, eta_min_ratio=0.01, convert_to_iter_based=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=6, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
