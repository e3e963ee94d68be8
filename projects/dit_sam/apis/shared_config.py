"""The config of a shared model: data that can be checked before anything is built from it.

mmengine builds whatever a `type` names: `Registry.get` also imports dotted names, such as `os.system`, and keywords can
name files and addresses to fetch. A config from a stranger is therefore checked key by key against what inference
needs; anything else is refused.
"""

import ast
import inspect
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.registry import Registry
from mmseg.registry import MODELS, TRANSFORMS
from transformers import MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_TEXT_ENCODING_MAPPING

from ..errors import InputError, first_line
from ..models.text_encoders import as_keywords, known_sizes, make_config
from .pairs import TRUTH_STEPS

FORMAT = 1
KEYS = ('library', 'format', 'versions', 'name', 'license', 'training', 'default_scope', 'model', 'pipeline')
TOKENIZER = 'tokenizer.json'
_MAX_BYTES = 2**20
_TUPLE = '__tuple__'
# Those that have a tokenizer, and their default one; the first has a text model too.
_HUGGING_FACE = 'HuggingFaceTextEncoder'
_TOKENIZERS = {_HUGGING_FACE: 'bert-base-uncased', 'BEiT3TextEncoder': 'YxZhang/evf-sam'}
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
_FETCHING = (
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
# The keywords of peft that only say how large LoRA is and where; others import modules.
_LORA = ('lora_alpha', 'lora_dropout', 'r', 'target_modules', 'use_rslora')
_WORDS = re.compile(r'[\w +|-]{0,100}')
_LARGEST = 10**7


def shared_config(config: Mapping) -> dict[str, Any]:
    """The parts of a config that inference needs, as values that JSON has; tuples become dicts of one key.

    Settings of the training go: `init_cfg`, and steps of the test pipeline that read the ground truth. The tokenizer
    becomes the name of its file, and a text model that is a folder or a hub name becomes its sizes.

    Raises:
        InputError: The config holds something that cannot be shared.
        FileNotFoundError: As in `make_config`.
    """
    loader = config['test_dataloader']
    if loader.get('collate_fn', dict(type='pseudo_collate')) != dict(type='pseudo_collate'):
        raise InputError('the config has test_dataloader.collate_fn, which a shared model cannot bring: leave it out')
    steps = [_plain(step, f'pipeline.{i}') for i, step in enumerate(loader['dataset']['pipeline'])]
    model = _plain(config['model'], 'model')
    for path, part in _parts(model, 'model'):
        if _name(part) in _TOKENIZERS:
            if isinstance(part.get('model'), str):
                part['model'] = _plain(as_keywords(make_config(part['model'])), f'{path}.model')
            part['tokenizer'] = TOKENIZER
    kept = [step for step in steps if _name(step) not in TRUTH_STEPS]
    return dict(default_scope='mmseg', model=model, pipeline=kept)


def tokenizer_source(config: Mapping) -> Any:
    """The tokenizer of the text encoder in a config, as `build_tokenizer` takes it; None without a text encoder.

    Raises:
        InputError: There are several text encoders.
    """
    encoders = [part for _, part in _parts(config['model'], 'model') if _name(part) in _TOKENIZERS]
    if len(encoders) > 1:
        raise InputError(f'the config has {len(encoders)} text encoders, and a shared model has the files of one')
    return encoders[0].get('tokenizer', _TOKENIZERS[_name(encoders[0])]) if encoders else None


def set_tokenizer(config: Mapping, file: Callable[[str], str]) -> None:
    """Put the path of the tokenizer's file into a config, in place; `file` gives it."""
    for _, part in _parts(config['model'], 'model'):
        if _name(part) in _TOKENIZERS:
            part['tokenizer'] = file(TOKENIZER)


def read_shared_config(path: str, source: str) -> dict[str, Any]:
    """Read and check the config of a shared model. Nothing is imported, built or fetched.

    Args:
        path: The file.
        source: What to call it in errors.

    Raises:
        InputError: It is damaged, of another program, of a newer version, or holds what `check_shared_config` refuses.
    """
    try:
        if Path(path).stat().st_size > _MAX_BYTES:
            raise ValueError(f'it has more than {_MAX_BYTES} bytes')
        data = json.loads(Path(path).read_text(encoding='utf-8'), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f'{source} cannot be read: {first_line(error)}; download it again') from error
    if not isinstance(data, dict) or data.get('library') != 'dit_sam':
        raise InputError(f'{source} is not of a model of dit_sam, as ReferringInferencer.save_pretrained writes it')
    if data.get('format') != FORMAT:
        raise InputError(
            f'{source} has format {str(data.get("format"))[:20]!r}, and this version of dit_sam reads {FORMAT}: '
            'install a newer one'
        )
    data = _with_tuples(data)
    check_shared_config(data, source)
    return data


def check_shared_config(data: Mapping, source: str) -> None:
    """Check that building the config of a shared model runs registered parts only, and fetches nothing.

    Every `type` is the plain name of a part of mmseg, mmengine, mmcv, torch or this project, with one of their scopes
    or none. No keyword names a file, an address or code.

    Raises:
        InputError: It would do something else; the message names the key.
    """
    for problem in _problems(data):
        raise InputError(f'{source} was refused and nothing in it was run: {problem}')


def read_config_text(text: str, source: str) -> dict[str, Any]:
    """The values of a config that mmengine has written as text, without running it as Python.

    Args:
        text: Assignments of literals and `dict(...)`, such as `Config.pretty_text`.
        source: What to call it in errors.

    Raises:
        InputError: It is something else.
    """
    try:
        statements = ast.parse(text).body
        return {_target(statement): _literal(statement.value) for statement in statements}  # type: ignore[attr-defined]
    except (SyntaxError, ValueError, RecursionError, AttributeError) as error:
        raise InputError(f'the config in {source} cannot be read ({first_line(error)}): give --config') from error


def _target(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    raise ValueError(f'line {statement.lineno} is not an assignment')


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {ast.literal_eval(key): _literal(value) for key, value in zip(node.keys, node.values) if key is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_literal(value) for value in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    return ast.literal_eval(node)


def _plain(value: Any, path: str) -> Any:
    """A value of a config without classes, `init_cfg` and empty entries of `_FETCHING`, in new containers."""
    if isinstance(value, Mapping):
        dropped = {key for key in value if key == 'init_cfg' or (key in _FETCHING and not value[key])}
        return {key: _plain(part, f'{path}.{key}') for key, part in value.items() if key not in dropped}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(part, f'{path}.{i}') for i, part in enumerate(value))
    # Pure Python configs name classes instead of strings.
    return value.__name__ if inspect.isclass(value) and path.endswith('.type') else value


def as_json(value: Any) -> Any:
    """A value with its tuples as dicts of one key, because JSON has only lists, which some transforms refuse."""
    if isinstance(value, Mapping):
        return {key: as_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [as_json(part) for part in value]
        return {_TUPLE: parts} if isinstance(value, tuple) else parts
    return value


def _with_tuples(value: Any) -> Any:
    """The reverse of `as_json`."""
    if isinstance(value, dict):
        if value.keys() == {_TUPLE} and isinstance(value[_TUPLE], list):
            return tuple(_with_tuples(part) for part in value[_TUPLE])
        return {key: _with_tuples(part) for key, part in value.items()}
    return [_with_tuples(part) for part in value] if isinstance(value, list) else value


def _refuse_constant(name: str) -> None:
    raise ValueError(f'{name} is not JSON')


def _parts(value: Any, path: str) -> Iterator[tuple[str, dict]]:
    """All dicts with a type in a value, by dotted name."""
    if isinstance(value, Mapping):
        if 'type' in value:
            yield path, value  # type: ignore[misc]
        for key, part in value.items():
            yield from _parts(part, f'{path}.{key}')
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _parts(part, f'{path}.{i}')


def _name(part: Any) -> str:
    """The name of a part's class without its scope."""
    kind = part.get('type', '') if isinstance(part, Mapping) else ''
    return str(getattr(kind, '__name__', kind)).split('.')[-1]


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
        elif key in _FETCHING and part not in (None, False):
            yield f'{where} names something to load'
        elif key == 'tokenizer' and _name(value) in _TOKENIZERS:
            if part != TOKENIZER:
                yield f'{where}={str(part)[:60]!r} is not {TOKENIZER}, the file that a shared model brings'
        elif key == 'model' and _name(value) == _HUGGING_FACE:
            yield from _of_text_model(part, where)
        elif key == 'lora' and isinstance(part, Mapping) and set(part) - set(_LORA):
            yield f'{where} has keywords other than {", ".join(_LORA)}; LoRA can be merged before sharing'
        else:
            yield from _of_value(part, where, registered)
    needed = ['tokenizer', 'model'] if _name(value) == _HUGGING_FACE else ['tokenizer']
    if _name(value) in _TOKENIZERS and not set(needed) <= value.keys():
        yield f'{path} lacks {" or ".join(needed)}'


def _of_type(kind: Any, path: str, registered: Mapping[str, Any]) -> Iterator[str]:
    part = registered.get(kind) if isinstance(kind, str) else None
    module = f'{getattr(part, "__module__", "")}.'
    if part is None:
        yield f'{path}={str(kind)[:60]!r} is not the name of a registered part'
    elif not module.startswith(_TRUSTED) or module.startswith(_REFUSED) or kind in _REFUSED_TYPES:
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
    return found | {'clip_text_model', 'siglip_text_model', 'siglip2_text_model'}
