"""compare.py and attention.py: several models side by side, and the attention of a model."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import ROOT, call_tool

from dit_sam.apis import DEFAULT_CHECKPOINT, DEFAULT_CONFIG
from dit_sam.datasets.shapes import write_shapes
from dit_sam.errors import InputError

COMPARE, ATTENTION = (str(ROOT / 'tools' / 'analysis_tools' / name) for name in ('compare.py', 'attention.py'))
MODEL = (DEFAULT_CONFIG, DEFAULT_CHECKPOINT)


@pytest.fixture(scope='module')
def compare() -> dict:
    return runpy.run_path(COMPARE)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('shapes')
    write_shapes(root, 3, 5, 160, dict(val=1.0), 1)
    return root


def item(compare: dict, *columns: int) -> object:
    """The truth is columns 0 to 3 of 10 × 10; each model finds so many columns."""
    masks = [np.arange(10)[None] < np.full((10, 1), count) for count in columns]
    return compare['Item']('a.png', 'left', np.arange(10)[None] < np.full((10, 1), 4), masks)


def test_iou_and_order(compare):
    items = [item(compare, 4, 4), item(compare, 1, 2), item(compare, 4, 0)]
    assert [one.ious for one in items] == [[1, 1], [10 / 40, 20 / 40], [1, 0]]

    def ordered(order: str) -> list:
        return sorted(range(3), key=lambda i: compare['ORDERS'][order](items[i]))

    # Means 1, 3/8, 1/2; differences 0, 1/4, 1.
    assert ordered('worst') == [1, 2, 0] and ordered('difference') == [2, 1, 0] and ordered('given') == [0, 1, 2]
    nothing = np.zeros((2, 2), bool)
    assert compare['Item']('a.png', 'none', nothing, [nothing, ~nothing], no_target=True).ious == [1, 0]
    assert compare['Item']('a.png', 'no pixel', nothing, [nothing, ~nothing]).ious == [0, 0]
    # Of the model's 4 pixels the last two do not count.
    truth, counting = np.array([[True, False, False, False]]), np.array([[True, True, False, False]])
    assert compare['Item']('a.png', 'some', truth, [~nothing.reshape(1, 4)], counting=counting).ious == [1 / 2]


def test_names_of_models(compare):
    assert compare['names_of'](['a/x.py', 'b/y.py'], ['1.pth', '2.pth']) == ['x', 'y']
    assert compare['names_of'](['x.py', 'x.py'], ['w/x/e1.pth', 'w/x/e2.pth']) == ['x/e1', 'x/e2']


class Kinds(list):
    """A dataset of kinds."""

    def get_data_info(self, index: int) -> dict:
        return dict(kind=self[index])


def test_choice_of_items(compare):
    dataset = Kinds('abababab')
    assert compare['choose'](dataset, None, None, 3) == [0, 4, 7]
    assert compare['choose'](dataset, None, 'b', 2) == [1, 7]
    assert compare['choose'](dataset, [5, 2, 3], 'b', 1) == [5, 3]
    with pytest.raises(InputError, match='--indices 8: the dataset has the items 0 to 7'):
        compare['choose'](dataset, [8], None, 1)
    with pytest.raises(InputError, match='no item is of --kind c; the kinds are a, b'):
        compare['choose'](dataset, None, 'c', 1)


def test_compare_draws_models_side_by_side(output_of, data, tmp_path):
    lines = output_of(
        COMPARE,
        *MODEL,
        *MODEL,
        '--indices',
        0,
        1,
        '--order',
        'worst',
        '--out',
        tmp_path / 'out',
        '--device',
        'cpu',
        '--cfg-options',
        f'val_dataloader.dataset.data_root={data}/',
    ).splitlines()
    assert lines[-1] == str(tmp_path / 'out' / 'val_worst_1.png')
    picture = cv2.imread(lines[-1])
    # image, truth and two models, 220 wide and 10 apart
    assert picture.shape[1] == 4 * 230 + 10
    truth, first, second = (picture[:, 10 + 230 * i :][:, :220] for i in (1, 2, 3))
    # Both are the same model, and its masks are much like the truth.
    rows = np.s_[60:120]
    assert (first[rows] == second[rows]).all() and (first[rows] != truth[rows]).any(-1).mean() < 0.2


def test_attention_draws_both_directions(output_of, data, tmp_path):
    image = sorted((data / 'images').glob('*.png'))[0]
    lines = output_of(
        ATTENTION,
        *MODEL,
        image,
        'the leftmost shape',
        '--layers',
        'encoder.1',
        'decoder.0',
        '--device',
        'cpu',
        '--out',
        tmp_path / 'out',
    ).splitlines()
    stem = f'{image.stem}_the-leftmost-shape'
    assert lines[-2:] == [str(tmp_path / 'out' / f'{stem}_to_{end}_1.png') for end in ('text', 'image')]
    to_text, to_image = (cv2.imread(path) for path in lines[-2:])
    # Three words; L-DIT's text does not attend in the encoder, so only the decoder is left.
    assert to_text.shape[1] == to_image.shape[1] == 3 * 170 + 10 and len(to_text) > len(to_image)


@pytest.mark.parametrize(
    'tool, arguments, message',
    [
        (COMPARE, [DEFAULT_CONFIG], 'name a checkpoint after each config, got 1 files'),
        (COMPARE, [DEFAULT_CONFIG, 'none.pth'], 'checkpoint none.pth not found'),
        (COMPARE, [*MODEL, '--out', 'afile'], 'afile cannot be written to: '),
        (ATTENTION, [*MODEL, 'none.png', 'left'], 'image none.png not found'),
        (ATTENTION, [*MODEL, '.', 'left'], '. is a folder: name one image'),
        (ATTENTION, [*MODEL, 'none.png', 'left', '--out', 'afile/new'], 'afile/new cannot be written to: '),
    ],
)
def test_wrong_input_ends_in_one_line(tmp_path, monkeypatch, capsys, tool, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'afile').touch()
    assert call_tool(tool, *arguments) in (1, 2)
    assert message in capsys.readouterr().err.splitlines()[-1]
