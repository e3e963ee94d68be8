# The released settings of ViT-H and of the default scheme: 25 epochs, and a cosine down to 1e-6, 1 % of the rate. The
# paper's steps at epochs 30 and 35 would not come.
_base_ = './dit_40e.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=3, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin=3, end=25, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=25)
