"""Losses for one output channel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.models.losses.dice_loss import dice_loss
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError


def check_losses(losses: nn.Module) -> None:
    """Check that the losses of a head with one output channel train it.

    Several losses of mmseg take one channel for one class of several: `DiceLoss` then trains the background, and
    `TverskyLoss` nothing. They are tried on a right and on an inverted mask.

    Raises:
        InputError: A loss of mmseg is not lower for the right mask, or the name of a loss keeps it out of the sum.
    """
    for loss in losses if isinstance(losses, nn.ModuleList) else [losses]:
        kind, name = type(loss).__name__, getattr(loss, 'loss_name', None)
        # As mmengine's `parse_losses` chooses what it adds up.
        if not isinstance(name, str) or 'loss' not in name:
            raise InputError(
                f'decode_head.loss_decode: {kind} has loss_name={name!r}, and only losses whose name contains "loss" '
                "are trained on: set loss_name='loss_...'"
            )
        is_used = type(loss).__module__.startswith('mmseg.') and getattr(loss, 'loss_weight', 1) != 0
        if is_used and not _tells_masks_apart(loss):
            raise InputError(
                f'decode_head.loss_decode: {kind} of mmseg does not train the one mask of a sentence: take '
                'BinaryCrossEntropyLoss, BinaryDiceLoss, or CrossEntropyLoss with use_sigmoid=True'
            )


@torch.no_grad()
def _tells_masks_apart(loss: nn.Module) -> bool:
    """Whether a loss is lower for a right mask; also True where tensors have no content to tell."""
    # With the device, which may be 'meta' by default, as for tools that only count weights.
    target = torch.zeros(2, 8, 8, dtype=torch.long, device='cpu')
    if type(target) is not Tensor:
        return True
    target[:, 2:5, 1:7] = 1
    logits = 6.0 * (2 * target - 1)[:, None]
    try:
        right, inverted = (float(loss(each, target, ignore_index=255)) for each in (logits, -logits))
    except Exception:  # a loss for several channels may fail in any way
        return False
    return right < inverted


@MODELS.register_module()
class BinaryCrossEntropyLoss(nn.Module):
    """Binary cross-entropy, averaged over all pixels; ignored pixels count as zeros.

    It equals mmseg's `CrossEntropyLoss(use_sigmoid=True)`, whose check of the labels makes the host wait for a GPU at
    every step.

    Args:
        loss_weight: Factor.
        loss_name: Name in the log; must contain `loss` to be trained on.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = 'loss_bce') -> None:
        super().__init__()
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = 255) -> Tensor:
        """
        Args:
            pred: Logits, (B, 1, H, W).
            target: Labels in {0, 1} or `ignore_index`, (B, H, W).
            weight: Weight of each pixel, (B, H, W).

        Returns:
            The loss, a scalar in float32.
        """
        counted = (target != ignore_index).float()
        if weight is not None:
            counted = counted * weight
        truth = (target == 1).float()
        return self.loss_weight * F.binary_cross_entropy_with_logits(pred.squeeze(1).float(), truth, counted)


@MODELS.register_module()
class BinaryDiceLoss(nn.Module):
    """1 − Dice of the probability map, averaged over the batch (V-Net, arXiv 1606.04797).

    mmseg's `DiceLoss` makes one-hot maps of as many classes as there are channels. With the one channel of binary
    segmentation that would be the background. This loss hands the masks to mmseg's `dice_loss` as they are.

    Args:
        loss_weight: Factor.
        eps: Keeps the quotient of two empty masks finite.
        squared: Whether the denominator adds squares, as in V-Net, or the values themselves.
        loss_name: Name in the log; must contain `loss` to be trained on.
    """

    def __init__(
        self, loss_weight: float = 1.0, eps: float = 1.0, squared: bool = True, loss_name: str = 'loss_dice'
    ) -> None:
        super().__init__()
        self.loss_weight, self.eps, self.squared, self.loss_name = loss_weight, eps, squared, loss_name

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = 255) -> Tensor:
        """
        Args:
            pred: Logits, (B, 1, H, W).
            target: Labels in {0, 1} or `ignore_index`, (B, H, W).
            weight: Weight of each sample, (B,).

        Returns:
            The loss, a scalar.
        """
        valid = target != ignore_index
        # A sum over a map of 512 × 512 leaves the range of float16.
        probability = pred.squeeze(1).float().sigmoid() * valid
        return self.loss_weight * dice_loss(
            probability, target * valid, weight, eps=self.eps, naive_dice=not self.squared, ignore_index=None
        )


def sentence_contrast(pred: Tensor, target: Tensor, images: Sequence[int], ignore_index: int = 255) -> Tensor:
    """Cross-entropy over the sentences of an image: at a pixel of an object, its own sentence should have the highest
    logit, so that the image's other sentences are its negatives.

    Sentences that mean the same object are no negatives of each other. Pixels of no object do not count.

    Args:
        pred: Logits, (B, 1, H, W).
        target: Labels in {0, 1} or `ignore_index`, (B, H, W).
        images: A number for each sample, equal for those on the same image.
        ignore_index: Label of pixels that do not count.

    Returns:
        The mean over the images with several sentences of the mean over the objects' pixels, a scalar in float32; 0 if
        there is no such image.
    """
    losses = []
    for image in dict.fromkeys(images):
        members = [i for i, other in enumerate(images) if other == image]
        if len(members) < 2:
            continue
        logits = torch.stack([pred[i, 0] for i in members]).float()
        labels = torch.stack([target[i] for i in members])
        own = labels == 1
        counted = own.any(0) & (labels != ignore_index).all(0)
        # A finite value in place of -inf, which would give NaN gradients where no sentence means the pixel.
        share = logits.logsumexp(0) - logits.masked_fill(~own, -1e4).logsumexp(0)
        losses.append((share * counted).sum() / counted.sum().clamp(min=1))
    return torch.stack(losses).mean() if losses else pred.float().sum() * 0
