"""What the data samples of a batch hold for the text encoder: sentences, and images in its own form."""

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement
from mmseg.utils import SampleList
from torch import Tensor

from ...errors import InputError


def sentences_of(data_samples: Sequence[BaseDataElement], otherwise: str | None = None) -> list[str]:
    """`text` in the metainfo of every data sample, and `otherwise` for those without.

    Raises:
        InputError: A data sample has none, and there is no `otherwise`.
    """
    lacking = [i for i, sample in enumerate(data_samples) if 'text' not in sample.metainfo]
    if lacking and otherwise is None:
        raise InputError(
            f"data sample {lacking[0]} has no 'text' in its metainfo: add 'text' to the meta_keys of "
            'the pipeline, or end it with PackReferringInputs'
        )
    return [sample.metainfo.get('text', otherwise) for sample in data_samples]


def text_encoder_images(data_samples: SampleList) -> Tensor:
    """The images of `AddTextEncoderImage`, (B, 3, H, W)."""
    missing = [sample for sample in data_samples if 'text_encoder_image' not in sample]
    if missing:
        raise InputError(
            f'{missing[0].metainfo.get("img_path", "a data sample")} has no image for the text encoder, which reads '
            'the sentence together with it: put dict(type="AddTextEncoderImage") before Resize into the pipeline'
        )
    return torch.stack([sample.text_encoder_image.data for sample in data_samples])
