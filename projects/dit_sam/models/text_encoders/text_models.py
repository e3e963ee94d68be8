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
from ...errors import InputError, first_line
from ...utils import read_weights
from .tokenizer import why_nowhere

_CONFIG = 'a config.json with its model_type'

# What transformers' DeBERTa reads from its configuration although that does not declare it.
_UNDECLARED = {
    'attention_head_size',
    'conv_act',
    'conv_groups',
    'conv_kernel_size',
    'embedding_size',
    'norm_rel_ebd',
    'position_buckets',
    'share_att_key',
    'talking_head',
}

# transformers omits the mask of its fused attention if a batch has no padding. To find that out, the host reads the
# mask and waits for the GPU at every step. This variant always makes the mask.
try:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask
except ImportError:  # before 4.53, whose plain attention does not read the mask
    _SDPA_WITH_MASK = None
else:
    _SDPA_WITH_MASK = 'sdpa_with_mask'

    def _always_mask(*args: Any, **kwargs: Any) -> Tensor:
        return sdpa_mask(*args, **dict(kwargs, allow_is_causal_skip=False, allow_is_bidirectional_skip=False))

    AttentionInterface.register(_SDPA_WITH_MASK, sdpa_attention_forward)
    AttentionMaskInterface.register(_SDPA_WITH_MASK, _always_mask)


def make_config(model: str | Mapping) -> PretrainedConfig:
    """The configuration of a text model, or of the text part of a model of images and text (CLIP, SigLIP).

    Args:
        model: `model_type` and sizes, or a folder or hub name.

    Raises:
        InputError: A size is misspelled or impossible. transformers would ignore unknown ones.
        FileNotFoundError: No such folder, and no hub answers to the name.
    """
    if not isinstance(model, str):
        return _from_sizes(model).get_text_config()
    try:
        return AutoConfig.from_pretrained(model, trust_remote_code=False).get_text_config()
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f'no text model at {model!r} ({first_line(error)}): {why_nowhere(model, _CONFIG, error)}'
        ) from error
    except Exception as error:  # as for sizes, below
        raise InputError(f'the config of the text model {model!r}: {_reason(error)}') from error


def as_keywords(config: PretrainedConfig) -> dict[str, Any]:
    """The keywords from which `make_config` makes a configuration of the same model.

    Raises:
        InputError: It cannot be made from keywords.
    """
    usual, names = type(config)().to_dict(), known_sizes(config.model_type)
    unused = ('architectures', 'dtype', 'torch_dtype', 'transformers_version')
    # Files may hold more than the class knows, such as settings of a decoder.
    values = {
        name: value
        for name, value in config.to_dict().items()
        if name not in unused and name[0] != '_' and name in names
    }
    keywords = {name: value for name, value in values.items() if name == 'model_type' or usual.get(name) != value}
    made = make_config(keywords).to_dict()
    differing = [name for name, value in values.items() if made.get(name) != value]
    if differing:
        raise InputError(
            f'text_encoder.model: {config.model_type} cannot be written as keywords: {", ".join(differing)}'
        )
    return keywords


def known_sizes(model_type: str) -> set[str]:
    """The keywords of a kind of text model; errors as in `AutoConfig.for_model`."""
    names = set(AutoConfig.for_model(model_type).to_dict())
    return names | _UNDECLARED if model_type in ('deberta', 'deberta-v2') else names


def _from_sizes(model: Mapping) -> PretrainedConfig:
    if 'model_type' not in model:
        raise InputError("text_encoder.model lacks model_type, such as 'bert'")
    try:
        known = AutoConfig.for_model(model['model_type'])
        sizes = known_sizes(model['model_type'])
        unknown = [key for key in model if key not in sizes and not hasattr(known, key)]
        if not unknown:
            return AutoConfig.for_model(**model)
    except Exception as error:  # transformers and torch raise anything for an impossible size
        raise InputError(f'text_encoder.model: {_reason(error)}') from error
    near = get_close_matches(unknown[0], known.to_dict(), n=1)
    raise InputError(
        f'text_encoder.model.{unknown[0]} is not a size of {model["model_type"]}'
        f'{f"; did you mean {near[0]}?" if near else ""}'
    )


def _reason(error: Exception) -> str:
    """An error of transformers or torch on one line; for an unknown type transformers lists all known ones."""
    kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
    return kind + ' '.join(str(error).split())[:200]


def build_model(config: PretrainedConfig) -> PreTrainedModel:
    """A text model with random weights, without its pooler; for T5 the encoder.

    Raises:
        InputError: transformers has no text model for the configuration, or its sizes do not fit together.
    """
    if _SDPA_WITH_MASK is None:
        config._attn_implementation = 'eager'
    try:
        if config.model_type.startswith('siglip'):
            # There is no automatic class: SiglipTextConfig, SiglipTextModel.
            model = getattr(transformers, type(config).__name__.replace('Config', 'Model'))(config)
        else:
            auto = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
            model = auto.from_config(config)
    except Exception as error:  # as in `_from_sizes`
        raise InputError(f'text_encoder.model: {_reason(error)}') from error
    if model.main_input_name != 'input_ids':
        raise InputError(f'text_encoder.model: {config.model_type!r} does not take text')
    for part in model.modules():
        if _SDPA_WITH_MASK and getattr(getattr(part, 'config', None), '_attn_implementation', None) == 'sdpa':
            part.config._attn_implementation = _SDPA_WITH_MASK
    return _without_pooler(model)


def _without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    # Its weights would get no gradient.
    model.pooler = None
    if isinstance(getattr(model, 'head', None), nn.Linear):
        # SigLIP always calls its head.
        model.head = nn.Identity()
    return model


def position_table(model: PreTrainedModel) -> nn.Embedding | None:
    """The learned position embeddings; None where positions are relative or rotary.

    With a `padding_idx` (RoBERTa, MPNet) positions start after it.
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


def max_positions(model: PreTrainedModel) -> int | None:
    """The longest sentence in tokens; None without a limit."""
    table = position_table(model)
    if table is None:
        return getattr(model.config, 'max_position_embeddings', None)
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def weights_from_hub(checkpoint: str, model: PreTrainedModel) -> dict[str, Tensor]:
    """Weights for a model of the same kind from a hub or a folder in its layout, without the pooler.

    A hub must have safetensors. From a folder, `pytorch_model.bin` is read too, without running code in it. A model
    with fewer layers gets the first ones.

    Raises:
        FileNotFoundError: No folder with a config.json, and no hub answers to the name.
        CheckpointError: A weight file is damaged or refused.
        InputError: The weights are of another kind of model, incomplete, or missing in the folder.
    """
    # First, as its errors name the file.
    weights = read_weights(checkpoint) if Path(checkpoint, 'config.json').is_file() else None
    try:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).get_text_config()
        if config.model_type != model.config.model_type:
            raise InputError(
                f'text weights {checkpoint} are of model_type={config.model_type!r}, and '
                f'text_encoder.model is {model.config.model_type!r}'
            )
        # A model with fewer layers takes the first ones.
        layers = getattr(model.config, 'num_hidden_layers', None)
        if layers is not None and layers < getattr(config, 'num_hidden_layers', layers):
            config.num_hidden_layers = layers
        source = dict(pretrained_model_name_or_path=checkpoint, use_safetensors=True)
        if weights is not None:
            source = dict(pretrained_model_name_or_path=None, state_dict=weights)
        loaded, info = type(model).from_pretrained(**source, config=config, output_loading_info=True, **in_float32())
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f'no text weights at {checkpoint!r}: {why_nowhere(checkpoint, _CONFIG, error)}'
        ) from error
    except Exception as error:  # as in `_from_sizes`
        raise InputError(f'text weights {checkpoint}: {_reason(error)}') from error
    # transformers fills missing weights with random numbers.
    missing = set(info['missing_keys'])
    return {name: value for name, value in _without_pooler(loaded).state_dict().items() if name not in missing}
