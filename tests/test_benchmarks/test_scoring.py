"""benchmarks/scoring.py: three ways to score the same sentences, and the same results."""

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

from dit_sam.apis import DEFAULT_CHECKPOINT

TOOL = str(Path(__file__).parents[2] / 'benchmarks' / 'scoring.py')


def test_all_ways_give_the_same_results(tmp_path, output_of):
    """With the shipped model: masks of random weights depend on rounding errors, and so on the batch size."""
    printed = output_of(
        TOOL,
        '--images',
        2,
        '--rounds',
        1,
        '--sets',
        'shapes',
        '--json',
        tmp_path / 'figures.json',
        '--checkpoint',
        DEFAULT_CHECKPOINT,
        '--cfg-options',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
    )
    figures = json.loads((tmp_path / 'figures.json').read_text())['shapes']
    assert (figures['images'], figures['sentences']) == (2, 14)
    assert figures['different'] == {'one by one': 0, 'apart': 0, 'by image': 0}
    assert all(rate > 0 for rate in figures['rate'].values())
    assert 'shapes: 14 sentences on 2 images' in printed


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--json', '.'], '. is a folder: name a file in it'),
        (
            ['--checkpoint', DEFAULT_CHECKPOINT, '--cfg-options', 'model.decode_head.depth=3'],
            'belong to different models',
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, error_of):
    assert message in error_of(TOOL, *arguments)


def test_photos_have_the_file_size_of_coco_images(tmp_path):
    runpy.run_path(TOOL)['write_photographs_set'](tmp_path, 2)
    for path in (tmp_path / 'images').iterdir():
        assert cv2.imread(str(path)).shape == (480, 640, 3)
        # COCO train2014 has 13 GB in 82,783 files: 160 kB each.
        assert 100e3 < path.stat().st_size < 220e3


def test_neighboring_sentences_have_different_images():
    order = runpy.run_path(TOOL)['order_apart'](np.array([5, 5, 5, 2, 2, 7]))
    assert order == [0, 3, 5, 1, 4, 2]
