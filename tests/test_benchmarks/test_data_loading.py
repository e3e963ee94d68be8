"""benchmarks/data_loading.py: the data set that it writes and its measurements, at a small size."""

import json
import runpy
from pathlib import Path

import pytest

from dit_sam.datasets.transforms import decode_segmentation

TOOL = str(Path(__file__).parents[2] / 'benchmarks' / 'data_loading.py')


@pytest.fixture(scope='module')
def tool() -> dict:
    return runpy.run_path(TOOL)


@pytest.fixture(scope='module')
def folder(tool, tmp_path_factory) -> Path:
    """300 masks and 200 more annotations on 100 images; 700 sentences; prepared too."""
    folder = tmp_path_factory.mktemp('benchmark')
    tool['write_set'](folder, images=100, masks=300, sentences=700, others=200)
    tool['open_set']('original', str(folder)).table.save(folder / tool['PREPARED'])
    return folder


def test_the_data_set_has_the_requested_sizes(tool, folder):
    dataset = tool['open_set']('original', str(folder))
    assert dataset.table.counts == dict(images=100, references=300, sentences=700, masks=300)
    assert len(json.loads((folder / 'instances.json').read_text())['annotations']) == 500
    item = dataset.get_data_info(7)
    assert decode_segmentation(item['segmentation'], 480, 640).any()
    assert len(tool['open_set']('mmdet', str(folder))) == 100  # one item an image


@pytest.mark.parametrize('reader', ['prepared', 'original', 'mmdet'])
def test_every_reader_is_measured(tool, folder, reader):
    figures = tool['measure'](reader, str(folder))
    assert set(figures) == set(tool['MEASURES'])
    assert figures['seconds'] > 0 and all(isinstance(value, float) for value in figures.values())


def test_an_existing_data_set_is_not_replaced(tmp_path, error_of):
    (tmp_path / 'instances.json').write_text('real')
    assert 'is not empty, and no file in it is replaced: name a new one' in error_of(TOOL, '--folder', tmp_path)
    assert (tmp_path / 'instances.json').read_text() == 'real'


def test_table_has_the_ratios(tool):
    figures = dict(
        prepared=dict(seconds=0.1, memory_mb=30.0, peak_mb=40.0, worker_mb=1.0),
        mmdet=dict(seconds=4.0, memory_mb=600.0, peak_mb=900.0, worker_mb=50.0),
    )
    lines = tool['table'](figures).splitlines()
    assert [cell.strip() for cell in lines[3].strip('|').split('|')] == [
        'prepared',
        '0.10',
        '30',
        '40',
        '1',
        '0.025 x mmdet',
        '0.050 x mmdet',
    ]
