"""The check of a shared model's config.

mmengine builds whatever a `type` names: `Registry.get` also imports dotted names, such as `os.system`, and keywords can
name files and addresses to fetch. A config from a stranger is therefore checked key by key against what inference
needs; anything else is refused.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.registry import Registry
from mmseg.registry import MODELS, TRANSFORMS
from transformers import MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_TEXT_ENCODING_MAPPING

from ..errors import InputError
from ..mmengine_extras.config_check import class_name
from ..models.text_encoders import known_sizes

KEYS = ('library', 'format', 'versions', 'name', 'license', 'training', 'default_scope', 'model', 'pipeline')
TOKENIZER = 'tokenizer.json'
# Those that have a tokenizer, and their default one; the first has a text model too.
HUGGING_FACE = 'HuggingFaceTextEncoder'
TOKENIZERS = {HUGGING_FACE: 'bert-base-uncased', 'BEiT3TextEncoder': 'YxZhang/evf-sam'}
# Packages whose parts take nothing from the network or from files if the keys below and texts with slashes are refused.
_TRUSTED = (
    'dit_sam.',
    'mmcv.cnn.',
    'mmcv.ops.',
    'mmcv.transforms.',
    'mmengine.model.',
    'mmseg.datasets.transforms.',
    'mmseg.models.',
    'torch.nn.',
)
# These fetch models by name; albumentations has types of its own.
_REFUSED = ('mmseg.models.text_encoder.', 'mmseg.models.backbones.timm_backbone', 'mmseg.models.backbones.vpd')
_REFUSED_TYPES = ('Albu',)
# Where files and addresses are named; None and False pass.
FETCHING = (
    'backend_args',
    'checkpoint',
    'checkpoint_path',
    'custom_imports',
    'file_client_args',
    'init_cfg',
    'load_from',
    'pretrained',
    'trust_remote_code',
)
# Where a text names a file, which mmseg unpickles; lists of numbers pass.
_FILES = ('class_weight',)
# The keywords of peft that only say how large LoRA is and where; others import modules.
_LORA = ('lora_alpha', 'lora_dropout', 'r', 'target_modules', 'use_rslora')
_WORDS = re.compile(r'[\w +|-]{0,100}')
# What LoRA is added to, such as q_proj.A, and the one instruction for all images.
_LAYER, _INSTRUCTION = re.compile(r'[\w.]{1,100}'), re.compile(r"[\w ,.'+|-]{1,1000}")
_LARGEST = 10**7


def check_shared_config(data: Mapping, source: str) -> None:
    """Check that building the config of a shared model runs registered parts only, and fetches nothing.

    Every `type` is the plain name of a part of mmseg, mmengine, mmcv, torch or this project, with one of their scopes
    or none. No keyword names a file, an address or code.

    Raises:
        InputError: It would do something else; the message names the key.
    """
    for problem in _problems(data):
        raise InputError(f'{source} was refused and nothing in it was run: {problem}')


def _problems(data: Mapping) -> Iterator[str]:
    unknown = [key for key in data if key not in KEYS]
    if unknown:
        yield f'{unknown[0][:40]} is not a key of it'
    if data.get('default_scope') != 'mmseg':
        yield "default_scope is not 'mmseg'"
    if not isinstance(data.get('model'), Mapping) or not isinstance(data.get('pipeline'), list):
        yield 'it lacks the model or the pipeline'
        return
    yield from _of_description(data)
    yield from _of_value(data['model'], 'model', _registered(MODELS))
    yield from _of_value(data['pipeline'], 'pipeline', _registered(TRANSFORMS))


def _of_description(data: Mapping) -> Iterator[str]:
    """Problems of what is only shown: the values of the model card."""
    training = data.get('training') or {}
    sets = [training.get(key) or [] for key in ('data', 'scored_on')] if isinstance(training, Mapping) else None
    scores = training.get('scores') or {} if isinstance(training, Mapping) else None
    if not all(isinstance(data.get(key), (str, type(None))) for key in ('name', 'license')):
        yield 'name or license is not a text'
    elif (
        not isinstance(scores, Mapping)
        or not all(isinstance(value, (int, float)) for value in scores.values())
        or not all(isinstance(one, list) for one in sets or ())
        or not all(isinstance(one, Mapping) and _is_text(one.values()) for part in sets or () for one in part)
    ):
        yield 'training is not as save_pretrained writes it'


def _is_text(values: Iterable) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_layer(name: Any) -> bool:
    return isinstance(name, str) and _LAYER.fullmatch(name) is not None


def _registered(registry: Registry) -> dict[str, Any]:
    """The parts of a registry and its parents by name, with and without scope."""
    found: dict[str, Any] = {}
    # mmseg registers its parts at their first use.
    registry.import_from_location()
    node: Registry | None = registry
    while node is not None:
        for name, part in node.module_dict.items():
            found.setdefault(name, part)
            found[f'{node.scope}.{name}'] = part
        node = node.parent
    return found


def _of_value(value: Any, path: str, registered: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _of_mapping(value, path, registered)
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _of_value(part, f'{path}.{i}', registered)
    elif isinstance(value, str):
        if not _WORDS.fullmatch(value):
            yield f'{path}={value[:60]!r} is not a plain word'
    elif isinstance(value, (int, float)):
        if not math.isfinite(value) or abs(value) > _LARGEST:
            yield f'{path} is larger than {_LARGEST}'
    elif value is not None:
        yield f'{path} is of class {type(value).__name__}'


def _of_mapping(value: Mapping, path: str, registered: Mapping[str, Any]) -> Iterator[str]:
    kind = value.get('type')
    if 'type' in value:
        yield from _of_type(kind, f'{path}.type', registered)
    for key, part in value.items():
        where = f'{path}.{str(key)[:40]}'
        if not isinstance(key, str) or key.startswith('_'):
            yield f'{where} is not a keyword'
        elif key == 'type' and isinstance(kind, str):
            continue
        elif (key in FETCHING and part not in (None, False)) or (key in _FILES and isinstance(part, str)):
            yield f'{where} names something to load'
        elif key == 'tokenizer' and class_name(value) in TOKENIZERS:
            if part != TOKENIZER:
                yield f'{where}={str(part)[:60]!r} is not {TOKENIZER}, the file that a shared model brings'
        elif key == 'model' and class_name(value) == HUGGING_FACE:
            yield from _of_text_model(part, where)
        elif key == 'lora' and isinstance(part, Mapping) and set(part) - set(_LORA):
            yield f'{where} has keywords other than {", ".join(_LORA)}; LoRA can be merged before sharing'
        elif isinstance(part, str) and key == 'text' and class_name(value) == 'StandaloneDITViT':
            if not _INSTRUCTION.fullmatch(part):
                yield f'{where}={part[:60]!r} is no plain text of at most 1000 letters'
        elif key == 'target_modules' and isinstance(part, (list, tuple)) and all(map(_is_layer, part)):
            continue
        else:
            yield from _of_value(part, where, registered)
    needed = ['tokenizer', 'model'] if class_name(value) == HUGGING_FACE else ['tokenizer']
    if class_name(value) in TOKENIZERS and not set(needed) <= value.keys():
        yield f'{path} lacks {" or ".join(needed)}'


def _of_type(kind: Any, path: str, registered: Mapping[str, Any]) -> Iterator[str]:
    part = registered.get(kind) if isinstance(kind, str) else None
    module = f'{getattr(part, "__module__", "")}.'
    if part is None:
        yield f'{path}={str(kind)[:60]!r} is not the name of a registered part'
    elif not module.startswith(_TRUSTED) or module.startswith(_REFUSED) or kind.split('.')[-1] in _REFUSED_TYPES:
        yield f'{path}={kind!r}, of {module[:-1]}, is not among the parts that shared models may use'


def _of_text_model(model: Any, path: str) -> Iterator[str]:
    """Problems of the keywords of a transformers configuration, some of which fetch models and code by name."""
    if not isinstance(model, Mapping):
        yield f'{path} is not a dict of sizes'
        return
    kind = model.get('model_type')
    if not isinstance(kind, str) or kind not in _text_models():
        yield f'{path}.model_type={str(kind)[:60]!r} is not a text encoder of transformers'
        return
    known = known_sizes(kind)
    for key, value in model.items():
        fetches = key in ('auto_map', 'quantization_config') or key.endswith('_implementation')
        if key not in known or key.startswith('_') or fetches:
            yield f'{path}.{str(key)[:40]} is not a size of {kind}'
        yield from _of_value(value, f'{path}.{key}', {})


def _text_models() -> set[str]:
    """The model types of transformers that only encode text."""
    mappings = (MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_FOR_MASKED_LM_MAPPING)
    found = {config.model_type for mapping in mappings for config in mapping.keys()}
    # On a GPU, the last two fetch code from the hub.
    return (found | {'clip_text_model', 'siglip_text_model', 'siglip2_text_model'}) - {'mra', 'yoso'}
