from .binary_cross_entropy_loss import BinaryCrossEntropyLoss
from .binary_dice_loss import BinaryDiceLoss

__all__ = ['BinaryCrossEntropyLoss', 'BinaryDiceLoss']
