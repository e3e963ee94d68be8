# Section 4.3 of the paper; betas, eps, the start of the warm-up, the gradient norm and EMA as in its released settings.
# The learning rate is for a batch of 64 (8 GPUs x 8); --cfg-options auto_scale_lr.enable=True adapts it to others.
optim_wrapper = dict(
    type='GuardedOptimWrapper',
    optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.98), eps=1e-9),
    clip_grad=dict(max_norm=0.15),
)
param_scheduler = [
    # 1e-7 = 1e-3 x 1e-4
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=3, by_epoch=True, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[30, 35], gamma=0.2, by_epoch=True),
]
train_cfg = dict(type='ResumableTrainLoop', max_epochs=40, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=64)
# w <- 0.9997 w + 0.0003 w_new
custom_hooks = [dict(type='EMAHook', momentum=0.0003)]
