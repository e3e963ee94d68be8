"""Losses for one output channel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.models.losses.dice_loss import dice_loss
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class BinaryCrossEntropyLoss(nn.Module):
    """Binary cross-entropy, averaged over all pixels; ignored pixels count as zeros.

    It equals mmseg's `CrossEntropyLoss(use_sigmoid=True)`, whose check of the labels makes the host wait for a GPU at
    every step.

    Args:
        loss_weight: Factor.
        loss_name: Name in the log; must begin with `loss_` to be trained on.
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
        loss_name: Name in the log; must begin with `loss_` to be trained on.
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
