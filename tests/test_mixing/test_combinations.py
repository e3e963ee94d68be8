"""The table on docs/mixing.md matches the results of all combinations."""

import importlib

import pytest
from combinations import COMBINATIONS, ELSEWHERE, PAGE, TABLE, build, run


@pytest.mark.parametrize('names', COMBINATIONS, ids='-'.join)
def test_combination_does_what_the_table_says(names):
    assert run(names).line(names) in TABLE.search(PAGE.read_text(encoding='utf-8'))[0].splitlines()


def test_the_table_has_no_other_rows():
    rows = TABLE.search(PAGE.read_text(encoding='utf-8'))[0].strip().splitlines()[2:]
    assert [tuple(cell.strip() for cell in row.split('|')[1:4]) for row in rows] == COMBINATIONS


@pytest.mark.parametrize('package', ELSEWHERE)
def test_backbones_of_other_packages(package):
    try:
        importlib.import_module('timm' if package == 'timm' else 'mmpretrain.models')
    except ImportError as error:
        pytest.skip(f'{package} does not import here: {error}')
    assert run((package, '–', 'SAMHead')).steps.endswith('predict')


def test_a_backbone_that_is_not_installed_says_so():
    if importlib.util.find_spec('timm') is not None:
        pytest.skip('timm is installed')
    with pytest.raises(RuntimeError, match='timm is not installed'):
        build(('timm', '–', 'SAMHead'))
