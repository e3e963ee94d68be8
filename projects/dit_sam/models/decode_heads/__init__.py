from .generalized_sam_head import GeneralizedSAMHead
from .sam_head import SAMHead

__all__ = ['GeneralizedSAMHead', 'SAMHead']
