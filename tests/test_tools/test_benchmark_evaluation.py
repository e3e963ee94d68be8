"""tools/analysis_tools/benchmark_evaluation.py: three ways to score the same sentences, and the same results."""
import json
import runpy
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

TOOL = str(Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'benchmark_evaluation.py')
SMALL = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False', 'test_dataloader.batch_size=16',
         'model.backbone.patch_size=16']


def test_all_ways_give_the_same_results(tmp_path, capsys):
    arguments = ['--images', '3', '--rounds', '1', '--json', str(tmp_path / 'figures.json'), '--cfg-options', *SMALL]
    with mock.patch('sys.argv', ['benchmark_evaluation.py', *arguments]):
        runpy.run_path(TOOL, run_name='__main__')
    figures = json.loads((tmp_path / 'figures.json').read_text())
    for name in ('shapes', 'photos'):
        assert (figures[name]['images'], figures[name]['sentences']) == (3, 21)
        assert figures[name]['different'] == {'one by one': 0, 'apart': 0, 'by image': 0}
        assert all(rate > 0 for rate in figures[name]['rate'].values())
    assert 'photos: 21 sentences on 3 images' in capsys.readouterr().out


def test_photos_are_as_large_as_those_of_coco(tmp_path):
    runpy.run_path(TOOL)['write_photos'](tmp_path, 2)
    for path in (tmp_path / 'images').iterdir():
        assert cv2.imread(str(path)).shape == (480, 640, 3)
        # COCO train2014 has 13 GB in 82,783 files: 160 kB each.
        assert 100e3 < path.stat().st_size < 220e3


def test_no_sentence_follows_another_of_its_image():
    order = runpy.run_path(TOOL)['order_apart'](np.array([5, 5, 5, 2, 2, 7]))
    assert order == [0, 3, 5, 1, 4, 2]
