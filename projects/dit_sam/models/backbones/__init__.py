from .dit_vit import DITViT
from .sam_vit import SAMViT
from .standalone_dit_vit import StandaloneDITViT

__all__ = ['DITViT', 'SAMViT', 'StandaloneDITViT']
