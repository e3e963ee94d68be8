from .evf_sam_head import EVFSAMHead
from .generalized_sam_head import GeneralizedSAMHead
from .sam_head import SAMHead

__all__ = ['EVFSAMHead', 'GeneralizedSAMHead', 'SAMHead']
