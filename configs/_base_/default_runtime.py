custom_imports = dict(imports=['dit_sam'], allow_failed_imports=False)
default_scope = 'mmseg'
# A seed that is drawn, and shared by all ranks.
randomness = dict(seed=None)
env_cfg = dict(
    cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl')
)
default_hooks = dict(
    runtime_info=dict(type='LossLogHook'),
    # enabled=True is faster in float32 on GPUs since Ampere, and less exact: docs/training.md, "TF32".
    tf32=dict(type='TF32Hook', enabled=False),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Three, in case the newest is damaged.
    checkpoint=dict(
        type='SafeCheckpointHook',
        by_epoch=True,
        interval=1,
        max_keep_ckpts=3,
        save_best='mIoU',
        rule='greater',
        strict_load=True,
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    random_stream=dict(type='RandomStreamHook'),
    finite_step=dict(type='FiniteStepHook'),
    stop_signal=dict(type='StopSignalHook'),
    visualization=dict(type='ReferringVisualizationHook'),
)
# Gradients are views of the buckets of DistributedDataParallel, which saves 4 bytes per parameter.
model_wrapper_cfg = dict(broadcast_buffers=False, find_unused_parameters=False, gradient_as_bucket_view=True)
# For TensorBoard or W&B too, a config of yours sets visualizer=dict(vis_backends=[dict(type='NumberedVisBackend'),
# dict(type='TensorboardVisBackend')]); vis_backends alone would change nothing.
vis_backends = [dict(type='NumberedVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
tta_model = dict(type='ReferringTTAModel')
# All values but the learning rate are means over the last ten batches, not losses and times alone.
log_processor = dict(by_epoch=True, mean_pattern=r'.*(loss|time|grad_norm|mean_iou|accuracy).*')
log_level = 'INFO'
load_from = None
resume = False
