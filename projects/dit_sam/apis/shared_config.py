"""The config of a shared model: data that can be checked before anything is built from it."""

import ast
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, first_line
from ..mmengine_extras.config_check import class_name, registered_name
from ..models.text_encoders import as_keywords, make_config
from .pairs import TRUTH_STEPS
from .shared_config_check import FETCHING, TOKENIZER, TOKENIZERS, check_shared_config

FORMAT = 1
MOST_BYTES = 2**20
_TUPLE = '__tuple__'


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
    kept = [step for step in steps if class_name(step) not in TRUTH_STEPS]
    return dict(default_scope='mmseg', model=_shared_model(config['model']), pipeline=kept)


def _shared_model(model: Mapping) -> dict[str, Any]:
    """The config of a model as `shared_config` gives it."""
    shared = _plain(model, 'model')
    for path, part in _parts(shared, 'model'):
        if class_name(part) in TOKENIZERS:
            if isinstance(part.get('model'), str):
                part['model'] = _plain(as_keywords(make_config(part['model'])), f'{path}.model')
            part['tokenizer'] = TOKENIZER
    return shared


def check_foreign_model(model: Mapping, source: str) -> None:
    """Check that building a model whose config was in a checkpoint runs registered parts only, and fetches nothing.

    Raises:
        InputError: As in `check_shared_config`.
    """
    check_shared_config(dict(default_scope='mmseg', model=_shared_model(model), pipeline=[]), source)


def tokenizer_source(config: Mapping) -> Any:
    """The tokenizer of the text encoder in a config, as `build_tokenizer` takes it; None without a text encoder.

    Raises:
        InputError: There are several text encoders.
    """
    encoders = [part for _, part in _parts(config['model'], 'model') if class_name(part) in TOKENIZERS]
    if len(encoders) > 1:
        raise InputError(f'the config has {len(encoders)} text encoders, and a shared model has the files of one')
    return encoders[0].get('tokenizer', TOKENIZERS[class_name(encoders[0])]) if encoders else None


def set_tokenizer(config: Mapping, file: Callable[[str], str]) -> None:
    """Put the path of the tokenizer's file into a config, in place; `file` gives it."""
    for _, part in _parts(config['model'], 'model'):
        if class_name(part) in TOKENIZERS:
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
        if Path(path).stat().st_size > MOST_BYTES:
            raise ValueError(f'it has more than {MOST_BYTES} bytes')
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
    """A value of a config without classes, `init_cfg` and empty entries of `FETCHING`, in new containers."""
    if isinstance(value, Mapping):
        dropped = {key for key in value if key == 'init_cfg' or (key in FETCHING and not value[key])}
        return {key: _plain(part, f'{path}.{key}') for key, part in value.items() if key not in dropped}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(part, f'{path}.{i}') for i, part in enumerate(value))
    if path.endswith('.type'):
        # Pure Python configs have classes, and their paths once they are written.
        value = f'{value.__module__}.{value.__qualname__}' if inspect.isclass(value) else value
        return registered_name(value) if isinstance(value, str) else value
    return value


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
