"""The text models of transformers: sizes, architecture, and weights from a hub or a folder."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    PretrainedConfig,
    PreTrainedModel,
)

from ...compat import in_float32
from ...errors import InputError
from ...utils import read_weights
from .sources import why_nowhere

_CONFIG = 'a config.json with its model_type'

# transformers' fused attention, whose mask is left out where a batch has no padding. To find out, the host asks the
# mask, and waits for the GPU at every step. Here the mask is always made.
try:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask
except ImportError:  # before 4.53; there attention in plain products does not ask
    _UNASKED = None
else:
    _UNASKED = 'sdpa_unasked'

    def _always_a_mask(*args: Any, **kwargs: Any) -> Tensor:
        return sdpa_mask(*args, **dict(kwargs, allow_is_causal_skip=False, allow_is_bidirectional_skip=False))

    AttentionInterface.register(_UNASKED, sdpa_attention_forward)
    AttentionMaskInterface.register(_UNASKED, _always_a_mask)


def make_config(model: str | Mapping) -> PretrainedConfig:
    """The configuration of a text model; of a model of images and text (CLIP, SigLIP) that of its text part.

    Args:
        model: `model_type` and sizes, or a folder or hub name.

    Raises:
        InputError: A size is misspelt or impossible. transformers would keep unknown ones without using them.
        FileNotFoundError: No such folder, and no hub answers to the name.
    """
    if not isinstance(model, str):
        return _from_sizes(model).get_text_config()
    try:
        return AutoConfig.from_pretrained(model).get_text_config()
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f'no text model at {model!r} ({_first_line(error)}): {why_nowhere(model, _CONFIG)}'
        ) from error


def _from_sizes(model: Mapping) -> PretrainedConfig:
    try:
        known = AutoConfig.for_model(model['model_type'])
        unknown = [key for key in model if not hasattr(known, key)]
        if not unknown:
            return AutoConfig.for_model(**model)
    except KeyError as error:
        raise InputError("text_encoder.model lacks model_type, such as 'bert'") from error
    except (TypeError, ValueError) as error:
        # Where the type is unknown, all that are known follow.
        raise InputError(f'text_encoder.model: {_first_line(error)[:200]}') from error
    near = get_close_matches(unknown[0], known.to_dict(), n=1)
    raise InputError(
        f'text_encoder.model.{unknown[0]} is no size of {model["model_type"]}'
        f'{f"; did you mean {near[0]}?" if near else ""}'
    )


def build_model(config: PretrainedConfig) -> PreTrainedModel:
    """The model with random weights, less its pooler; of T5 the encoder.

    Raises:
        InputError: transformers has no model of text for the configuration, or its sizes do not fit together.
    """
    if _UNASKED is None:
        config._attn_implementation = 'eager'
    try:
        if config.model_type.startswith('siglip'):
            # It has no automatic class: SiglipTextConfig, SiglipTextModel.
            model = getattr(transformers, type(config).__name__.replace('Config', 'Model'))(config)
        else:
            auto = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
            model = auto.from_config(config)
    except ValueError as error:
        raise InputError(f'text_encoder.model: {_first_line(error)}') from error
    if model.main_input_name != 'input_ids':
        raise InputError(f'text_encoder.model: {config.model_type!r} does not take text')
    for part in model.modules():
        if _UNASKED and getattr(getattr(part, 'config', None), '_attn_implementation', None) == 'sdpa':
            part.config._attn_implementation = _UNASKED
    return _without_pooler(model)


def _without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    # A pooler sees one token only and would be a parameter without gradient.
    model.pooler = None
    if isinstance(getattr(model, 'head', None), nn.Linear):
        # SigLIP's, which cannot be left out.
        model.head = nn.Identity()
    return model


def position_table(model: PreTrainedModel) -> nn.Embedding | None:
    """The learned embeddings of the places in a sentence; None where positions are relative or rotary.

    With a `padding_idx` (RoBERTa, MPNet) places are counted from the one behind it.
    """
    return next(
        (
            module
            for name, module in model.named_modules()
            if isinstance(module, nn.Embedding)
            and name.rpartition('.')[2] in ('position_embeddings', 'position_embedding')
        ),
        None,
    )


def places(model: PreTrainedModel) -> int | None:
    """How many tokens a sentence may have; None where there is no limit."""
    table = position_table(model)
    if table is None:
        return getattr(model.config, 'max_position_embeddings', None)
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def weights_from_hub(checkpoint: str, model: PreTrainedModel) -> dict[str, Tensor]:
    """Weights of a hub or of a folder in its layout for a model of the same kind, less the pooler.

    Of a hub safetensors are read, of a folder `pytorch_model.bin` too, of which nothing is run.

    Raises:
        FileNotFoundError: No folder with a config.json, and no hub answers to the name.
        CheckpointError: A file of weights is damaged or refused.
        InputError: Another kind of model, one that lacks weights, or a folder without any.
    """
    # Errors of a folder's files say what they are about.
    weights = read_weights(checkpoint) if Path(checkpoint, 'config.json').is_file() else None
    try:
        config = AutoConfig.from_pretrained(checkpoint).get_text_config()
        if config.model_type != model.config.model_type:
            raise InputError(
                f'text weights {checkpoint} are of model_type={config.model_type!r}, and '
                f'text_encoder.model is {model.config.model_type!r}'
            )
        source = dict(pretrained_model_name_or_path=checkpoint, use_safetensors=True)
        if weights is not None:
            source = dict(pretrained_model_name_or_path=None, state_dict=weights)
        loaded, info = type(model).from_pretrained(**source, config=config, output_loading_info=True, **in_float32())
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f'no text weights at {checkpoint!r}: {why_nowhere(checkpoint, _CONFIG)}') from error
    # What is missing transformers fills with random numbers.
    made_up = set(info['missing_keys'])
    return {name: value for name, value in _without_pooler(loaded).state_dict().items() if name not in made_up}


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
