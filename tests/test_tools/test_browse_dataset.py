"""Pictures of the inputs of the model."""

import runpy

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from processes import ROOT, call_tool

TOOL = str(ROOT / 'tools' / 'analysis_tools' / 'browse_dataset.py')
CONFIG = ROOT / 'configs' / 'dit_sam' / 'ldit_vit-b.py'


def options(data_root: str, split: str) -> list:
    return ['--cfg-options', f'{split}_dataloader.dataset.data_root={data_root}/']


def item(mask: torch.Tensor, **metainfo) -> dict:
    """A blue picture of 30 x 40, channels blue, green, red, with a mask."""
    image = torch.zeros(3, 30, 40, dtype=torch.uint8)
    image[0] = 255
    return dict(
        inputs=image,
        data_samples=SegDataSample(
            metainfo=dict(text='the box', img_path='a.jpg', **metainfo), gt_sem_seg=PixelData(data=mask[None])
        ),
    )


@pytest.mark.parametrize('bgr, color', [(True, (0, 0, 255)), (False, (255, 0, 0))])
def test_mask_and_box_are_drawn_at_their_position(bgr, color):
    """The picture is enlarged 12 times. The mask has rows 10 to 19 and columns 5 to 24 without its upper right part."""
    mask = torch.zeros(30, 40, dtype=torch.int64)
    mask[10:20, 5:25] = 1
    mask[10:15, 15:25] = 0
    picture = runpy.run_path(TOOL)['draw_item'](item(mask), bgr)

    def drawn(row: int, column: int) -> bool:
        return (picture[row * 12 + 6, column * 12 + 6] != color).any()

    assert drawn(17, 10) and drawn(17, 20)  # mask
    assert drawn(10, 20) and drawn(12, 24)  # border of the box beyond the mask
    assert not drawn(12, 20) and not drawn(5, 10) and not drawn(25, 30)


def test_a_sentence_without_a_target_is_captioned():
    tool = runpy.run_path(TOOL)
    picture, expected = (
        tool[draw](*arguments)
        for draw, arguments in (
            ('draw_item', [item(torch.zeros(30, 40))]),
            ('draw_masks', [np.zeros((30, 40, 3), np.uint8), [np.ones((30, 40), bool)], ['the box: no target']]),
        )
    )
    assert np.array_equal(picture[360:], expected[360:])


def test_ground_truth_in_testing_is_drawn_at_the_size_of_the_image():
    tool = runpy.run_path(TOOL)
    mask = torch.zeros(30, 40, dtype=torch.int64)
    mask[10:20, 5:25] = 1
    large = mask.repeat_interleave(3, 0).repeat_interleave(3, 1)
    assert np.array_equal(tool['draw_item'](item(large)), tool['draw_item'](item(mask)))


def test_prompts_are_drawn():
    prompts_of = runpy.run_path(TOOL)['prompts_of']
    sample = item(
        torch.ones(30, 40),
        points=np.array([[8.0, 5.0], [30.0, 20.0]]),
        point_labels=np.array([1, 0]),
        box=np.array([2.2, 3.0, 20.0, 25.0]),
    )['data_samples']
    prompts = prompts_of(sample, (30, 40))
    assert list(prompts) == ['prompt: box', 'prompt: point 1, inside', 'prompt: point 2, outside']
    box, inside, outside = prompts.values()
    assert np.argwhere(box).min(0).tolist() == [3, 2] and np.argwhere(box).max(0).tolist() == [24, 19]
    assert inside[5, 8] and outside[20, 30] and not inside[20, 30]


def test_a_contact_sheet():
    """Three pictures of width 6, 3 and 3 come to the width 6, in two columns and two rows; the rest is white."""
    pictures = [
        np.full((height, width, 3), value, np.uint8) for height, width, value in ((4, 6, 10), (5, 3, 20), (2, 3, 30))
    ]
    sheet = runpy.run_path(TOOL)['contact_sheet'](pictures, width=6, gap=1)
    assert sheet.shape == ((10 + 1) + (4 + 1), (6 + 1) * 2, 3)
    assert (sheet[:4, :6] == 10).all() and (sheet[:10, 7:13] == 20).all() and (sheet[11:15, :6] == 30).all()
    assert (sheet == 255).sum() == (16 * 14 - 4 * 6 - 10 * 6 - 4 * 6) * 3


def test_pictures_of_a_split(output_of, write_refcoco, tmp_path):
    """Two sentences of one picture, one of them twice, are shown side by side."""
    out, root = tmp_path / 'out', write_refcoco()
    arguments = CONFIG, '--split', 'val', '--num', 9, '--out', out, *options(root, 'val')
    output = output_of(TOOL, *arguments)
    names = [
        f'val_COCO_train2014_00000000000{number}_{words}_1.png'
        for number, words in ((2, 'two-corners'), (2, 'both-squares'), (2, 'squares'), (3, 'everything'))
    ]
    assert output.split()[1:] == [str(out / name) for name in names]
    # 30 x 50 pixels become 307 x 512 in the pipeline, with the sentence below.
    assert cv2.imread(str(out / names[0])).shape[1] == 512
    output_of(TOOL, *arguments)
    assert len(list(out.iterdir())) == 8


def test_a_sheet_of_augmented_items(output_of, write_refcoco, tmp_path):
    """The same seed shows the same, another one another augmentation."""
    root, sheets = write_refcoco(), []
    for seed in (0, 0, 1):
        output = output_of(
            TOOL, CONFIG, '--num', 3, '--sheet', '--seed', seed, '--out', tmp_path / 'out', *options(root, 'train')
        )
        sheets.append(cv2.imread(output.split()[1]))
    assert np.array_equal(sheets[0], sheets[1])
    assert sheets[0].shape != sheets[2].shape or (sheets[0] != sheets[2]).any()
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [f'train_sheet_{i}.png' for i in (1, 2, 3)]


def test_a_folder_that_cannot_be_written_gets_one_line(error_of, tmp_path):
    (tmp_path / 'afile').touch()
    line = error_of(TOOL, CONFIG, '--out', tmp_path / 'afile' / 'x', alone=True)
    assert line.startswith(f'{tmp_path / "afile" / "x"} cannot be written to: ')


@pytest.mark.parametrize(
    'missing, message',
    [
        ('refcoco/refs(unc).p', 'References not found: '),
        ('train2014/COCO_train2014_000000000001.jpg', 'Image not found: '),
    ],
)
def test_missing_data_get_one_line(error_of, write_refcoco, tmp_path, missing, message):
    root = write_refcoco()
    (tmp_path / missing).unlink()
    line = error_of(TOOL, CONFIG, '--out', tmp_path / 'out', *options(root, 'train'), alone=True)
    assert line.startswith(message)


def test_a_split_that_is_not_in_the_config_gets_one_line(error_of, tmp_path):
    config = tmp_path / 'config.py'
    model = ROOT / 'configs' / '_base_' / 'models' / 'dit_sam_vit-t.py'
    config.write_text(f"_base_ = ['{model}']\ndefault_scope = 'mmseg'\n")
    message = error_of(TOOL, config, '--split', 'val', alone=True)
    assert message == f'{config} has no val_dataloader: choose another --split'


@pytest.mark.parametrize('option, value', [('--num', 0), ('--seed', -1), ('--seed', 2**32)])
def test_numbers_out_of_range_are_refused(option, value, capsys):
    assert call_tool(TOOL, CONFIG, option, value) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f', got {value}')
