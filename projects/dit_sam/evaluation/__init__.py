"""Metrics of referring segmentation."""

from .mask_writer import MaskWriter
from .referring_iou import ReferringIoU

__all__ = ['MaskWriter', 'ReferringIoU']
