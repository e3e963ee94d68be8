# EVF-SAM: AdamW at 1e-4, which falls linearly to 0 in 15,000 steps of 128 images; here 15 epochs of 1,000 steps, see
# epoch_size in the data. The paper says no more: betas, weight decay, no warm-up and the gradient norm are ours.
# The learning rate is for a batch of 128 images; --cfg-options auto_scale_lr.enable=True adapts it to others.
optim_wrapper = dict(
    type='GuardedOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, begin=0, end=15, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(type='ResumableTrainLoop', max_epochs=15, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=128)
