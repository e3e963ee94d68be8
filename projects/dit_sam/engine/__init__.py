"""What runs of this project need beyond `mmengine_extras`: launch, layer decay, compiling and sharding of blocks."""

from ..mmengine_extras.config_check import FILLED_IN
from .compile_hook import CompileHook
from .fsdp_policy import wrap_instructed_blocks
from .optim_constructors import MergedOptimWrapperConstructor, SAMLayerDecayConstructor

# An instruction gets them from the backbone that builds it.
FILLED_IN.update(['embed_dims', 'depth'])

__all__ = ['CompileHook', 'MergedOptimWrapperConstructor', 'SAMLayerDecayConstructor', 'wrap_instructed_blocks']
