"""How the released DIT reads text: by the first layer of BERT, and with padding as text."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_LAYER_OF_BERT = re.compile(r'lang_encoder\.bert\.encoder\.layer\.(\d+)\.')


def without_upper_layers(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The weights of the released DIT without the layers of BERT above those of a model.

    Its files have all twelve layers, and its code reads the output of the first one: each `models/*/net.py` passes
    `enc_num=True`, and models/language_encoder.py takes `all_encoder_layers[enc_num - 1]`.

    Args:
        weights: Under the names of the released DIT.
        layers: Layers of the model's BERT; 0, for other text encoders, leaves all.
    """
    found = {name: _LAYER_OF_BERT.search(name) for name in weights}
    upper = {name for name, at in found.items() if layers and at and int(at[1]) >= layers}
    return {name: value for name, value in weights.items() if name not in upper}


def layers_of_text(text_encoder: Any) -> int:
    """The layers of a text encoder of transformers; 0 for other ones and for None."""
    config = getattr(getattr(text_encoder, 'model', None), 'config', None)
    return getattr(config, 'num_hidden_layers', 0)


def released_text_warning(text_encoder: Any) -> str:
    """What to set so that a text encoder reads text as the released DIT does; empty if it does so."""
    settings = []
    if layers_of_text(text_encoder) > 1:
        settings.append('model.text_encoder.model.num_hidden_layers=1')
    if getattr(text_encoder, 'mask_text_padding', False):
        settings.append('model.text_encoder.mask_text_padding=False')
    if not settings:
        return ''
    return (
        "the released DIT was trained on the output of BERT's first layer, with the padding of short sentences as "
        f'text, and this model reads text in another way: set {" and ".join(settings)}'
    )
