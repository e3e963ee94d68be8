# dit_40e.py with two rates: new parts (instruction, text projection) and the mask decoder at 1e-4, the pre-trained
# encoders at a tenth of it. Three groups for any number of weights, so that the fused Adam starts few kernels.
_base_ = './dit_40e.py'

optim_wrapper = dict(
    constructor='MergedOptimWrapperConstructor',
    # The longest key that is part of a parameter's name applies.
    paramwise_cfg=dict(
        custom_keys={
            'text_encoder.': dict(lr_mult=0.1),
            'backbone.': dict(lr_mult=0.1),
            'backbone.instruction.': dict(lr_mult=1.0),
        }
    ),
)
