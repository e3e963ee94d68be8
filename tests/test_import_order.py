"""The packages of dit_sam import each other in one direction; imports inside functions and by name count."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'projects' / 'dit_sam'
# A package may import those of earlier lines, but not those of its own line.
ORDER = (
    ('errors',),
    ('compat',),
    ('structures',),
    ('version',),
    ('registry',),
    ('utils',),
    ('mmengine_extras',),
    ('models', 'datasets', 'evaluation'),
    ('engine', 'visualization'),
    ('apis', 'scoring'),
    ('web',),
)
RANKS = {package: rank for rank, packages in enumerate(ORDER) for package in packages}
# Not of the package: its command line, and folders of the repository.
OUTSIDE = ('dit_sam_cli', 'tools', 'benchmarks', 'reproduction', 'tests')
# `mmengine_extras` could be taken out of this project, so it may not know the structures of its data.
ALLOWED = dict(mmengine_extras={'errors', 'compat', 'utils'})


def imports(source: str, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """The lines of a module with a package of dit_sam that they import; '' for dit_sam itself.

    Args:
        source: The text of the module.
        module: Its name within dit_sam, with `__init__` for that of a package, as `('utils', 'images')`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(('dit_sam', *module)[: -node.level]) if node.level else []
            base += node.module.split('.') if node.module else []
            # `from .. import compat` names packages after the `import`.
            names = ['.'.join([*base, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split('.')[-1] in ('import_module', '__import__'):
            names = [node.args[0].value] if node.args and isinstance(node.args[0], ast.Constant) else []
        else:
            continue
        for name in names:
            first, *rest = name.split('.')
            if first == 'dit_sam':
                yield node.lineno, rest[0] if rest else ''
            elif first in OUTSIDE:
                yield node.lineno, first


def wrong_imports(source: str, module: tuple[str, ...]) -> list[str]:
    """The imports that violate the order, each with its position."""
    own = module[0]
    allowed = ALLOWED.get(own, {package for package, rank in RANKS.items() if rank < RANKS[own]})
    return [
        f'{"/".join(module)}.py:{line} imports {package or "dit_sam"}'
        for line, package in imports(source, module)
        if package != own and package not in allowed
    ]


def test_every_package_is_in_the_order():
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or (path / '__init__.py').exists()}
    assert names - {'__init__'} == set(RANKS)


def test_no_import_violates_the_order():
    wrong = []
    for path in sorted(PACKAGE.rglob('*.py')):
        module = path.relative_to(PACKAGE).with_suffix('').parts
        if module != ('__init__',):
            wrong += wrong_imports(path.read_text(encoding='utf-8'), module)
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize(
    'module, source, wrong',
    [
        (('utils', 'a'), 'from ..models import x', ['utils/a.py:1 imports models']),
        (('utils', 'a'), 'from .. import errors, models', ['utils/a.py:1 imports models']),
        (('utils', 'a'), 'from .b import x\nfrom . import c\nfrom ..errors import y\nimport torch', []),
        (('utils', '__init__'), 'from .a import models', []),
        (('utils', 'a'), 'import dit_sam.engine.launch', ['utils/a.py:1 imports engine']),
        (('utils', 'a'), 'import dit_sam', ['utils/a.py:1 imports dit_sam']),
        (
            ('models', 'layers', 'a'),
            'def f():\n    from ...datasets.b import x',
            ['models/layers/a.py:2 imports datasets'],
        ),
        (('models', 'layers', 'a'), 'from ..lora import x\nfrom ...structures import y', []),
        (('engine', 'a'), 'from dit_sam.visualization import x', ['engine/a.py:1 imports visualization']),
        (('mmengine_extras', 'a'), 'from ..structures import x', ['mmengine_extras/a.py:1 imports structures']),
        (('errors',), 'from . import compat', ['errors.py:1 imports compat']),
        (('errors',), 'from .utils.a import x', ['errors.py:1 imports utils']),
        (('utils', 'a'), 'importlib.import_module("dit_sam.models")', ['utils/a.py:1 imports models']),
        (('utils', 'a'), 'import_module(name)\nimport_module("mmseg.models")', []),
        (('apis', 'a'), 'from benchmarks.measures import x', ['apis/a.py:1 imports benchmarks']),
        (('apis', 'a'), 'import dit_sam_cli.files', ['apis/a.py:1 imports dit_sam_cli']),
    ],
)
def test_all_kinds_of_imports_are_detected(module, source, wrong):
    assert wrong_imports(source, module) == wrong
