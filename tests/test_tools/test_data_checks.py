"""Errors in data: check.py lists them by line, and refcoco.py --check-images by image."""

import json
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from processes import call_tool

from dit_sam.datasets import ReferringJSONDataset
from dit_sam.errors import InputError

# Two lines with one sentence would be doubtful.
NUMBERS = count()
IMAGE = 'train2014/COCO_train2014_000000000001.jpg'  # 40 x 60, as tests/conftest.py writes it


def check(*arguments) -> int:
    return call_tool('dataset_converters/check.py', *arguments)


@pytest.fixture
def root(write_refcoco) -> Path:
    return Path(write_refcoco())


def write(root: Path, *lines) -> Path:
    path = root / 'mine.jsonl'
    path.write_text('\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines) + '\n')
    return path


def line(**more) -> dict:
    """A valid line, with changes; None removes a key."""
    record = {'image': IMAGE, 'sentence': f'box {next(NUMBERS)}', 'bbox': [5, 10, 20, 8], **more}
    return {key: value for key, value in record.items() if value is not None}


def test_good_file(root, capsys):
    (root / 'masks').mkdir()
    Image.fromarray(np.eye(40, 60, dtype=np.uint8)).save(root / 'masks' / 'a.png')
    path = write(
        root,
        line(),
        '',
        line(bbox=None, mask='masks/a.png', sentence=None, sentences=['a', 'b']),
        line(bbox=None, segmentation=None, mask=None) | dict(segmentation=None),
    )
    assert check(path) == 0
    assert capsys.readouterr().out == f'{path}: 3 lines, 4 good sentences, 0 problems\n'


def test_folders_of_images_and_masks(root):
    (root / 'masks').mkdir()
    Image.fromarray(np.eye(40, 60, dtype=np.uint8)).save(root / 'masks' / 'a.png')
    path = write(root, line(image='000000000001.jpg', bbox=None, mask='a.png'))
    (root / IMAGE).rename(root / 'train2014' / '000000000001.jpg')
    assert check(path, '--images', root / 'train2014', '--masks', root / 'masks') == 0
    assert check(path) == 1


def test_all_problems_are_listed_with_their_lines(root, capsys):
    second = root / 'train2014' / 'COCO_train2014_000000000002.jpg'
    second.write_bytes(second.read_bytes()[:-800])
    path = write(
        root,
        line(sentence=None, bbox=[1, 2, 3]),
        '{',
        '',
        line(image='none.jpg'),
        line(bbox=None, segmentation=[[1, 2, 3, 4]]),
        line(height=30, width=50),
        line(image='train2014/COCO_train2014_000000000002.jpg'),
        line(bbox=None, mask='none.png'),
        line(),
    )
    assert check(path) == 1
    lines = capsys.readouterr().out.splitlines()
    expected = [
        'line 1 needs either "sentence", a text, or "sentences"',
        'line 2 begins a longer JSON value, such as a COCO file: write one object a line; ',
        f'line 4 names the image {root}/none.jpg, which does not exist',
        'line 5 has a polygon of 4 numbers',
        f'line 6 names the image {root}/{IMAGE}, which is 40 x 60, not 30 x 50 (height x width)',
        f'line 7 names the image {second}, which does not decode: ',
        f'line 8 names the mask {root}/none.png, which does not exist',
    ]
    assert [line.startswith(start) for line, start in zip(lines, expected)] == [True] * 7
    assert lines[7:] == [f'{path}: 8 lines, 1 good sentences, 7 problems']


def test_several_problems_of_one_line(root, capsys):
    assert check(write(root, dict(sentence='', mask=3, height=1))) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(line.startswith('line 1 ') for line in lines[:4])


def test_a_target_without_a_pixel_is_named(root, capsys):
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(root / 'nothing.png')
    path = write(root, line(bbox=[70, 10, 5, 5]), line(bbox=None, mask='nothing.png'), line())
    assert check(path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(';')[0] for line in lines[:2]] == [
        f'line {number} has a target without a pixel in its image' for number in (1, 2)
    ]
    assert lines[2].endswith('3 lines, 1 good sentences, 2 problems')


def test_doubtful_lines_get_a_warning(root, capsys):
    """A JPEG has gray pixels around its 16, VOC's border has another value; and an image has one id, the first."""
    square = np.zeros((40, 60), np.uint8)
    square[12:16, 20:24] = 255
    bordered = square.copy()
    bordered[11, 20:24] = 7, 7, 7, 9
    bordered[10, 20] = 8
    for name, mask in (('good.png', square), ('blurred.jpg', square), ('bordered.png', bordered)):
        Image.fromarray(mask).save(root / name)
    pixels = np.count_nonzero(Image.open(root / 'blurred.jpg'))
    path = write(
        root,
        *(line(bbox=None, mask=name) for name in ('good.png', 'blurred.jpg', 'bordered.png')),
        line(image_id=1),
        line(image_id='1'),
        line(image_id=8),
        line(image='train2014/COCO_train2014_000000000002.jpg', image_id=8),
    )
    assert check(path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert pixels > 16 and lines[0].startswith(
        f'warning: line 2 names the mask {root}/blurred.jpg, a JPEG, which blurs edges: save it as PNG; all {pixels} '
    )
    assert lines[1:] == [
        f'warning: line 3 names the mask {root}/bordered.png, all 21 pixels with the values 7, 8, 9, … count as inside',
        f"warning: line 6 gives {IMAGE} the image_id 8, but line 1 comes first with '1', which is used",
        f'{path}: 7 lines, 7 good sentences, 0 problems, 3 warnings',
    ]


@pytest.mark.parametrize(
    'change, doubt',
    [
        (dict(bbox=[0.1, 0.2, 0.5, 0.5]), 'has coordinates from 0 to 1: they are pixels here'),
        (dict(bbox=None, segmentation=[[0, 0, 1, 0, 1, 1, 0, 1]]), 'has coordinates from 0 to 1'),
        (dict(bbox=[30, 20, 50, 39]), 'has a box that ends outside of its image: "bbox" is left, top, width, height'),
        (dict(bbox=None, segmentation=[dict(size=[40, 60], counts=[0, 9, 2391])]), ''),
        (
            dict(bbox=None, segmentation=[[0, 0, 66, 0, 30, 30]]),
            'has a polygon that leaves its image of 40 x 60 (height x width) by 6 pixels: was it drawn on',
        ),
        (dict(bbox=None, segmentation=[[0, 0, 62, 0, 30, 30]]), ''),
        (dict(catgory_id=3), 'has the key "catgory_id", which nothing reads: did you mean "category_id"?'),
        (dict(source='mine', weight=2, category_name='cat', image_size=[1, 2], image_url='a'), ''),
    ],
)
def test_what_is_probably_meant_otherwise_gets_a_warning(root, capsys, change, doubt):
    assert check(write(root, line(**change))) == 0
    output = capsys.readouterr().out
    assert f'warning: line 1 {doubt}' in output if doubt else 'warning' not in output


@pytest.mark.parametrize('orientation, shape', [(2, (40, 60)), (3, (40, 60)), (4, (40, 60)), (6, (40, 40))])
def test_an_undetectable_rotation_gets_one_warning(root, capsys, orientation, shape):
    """The lines are valid: coordinates are those of the picture as shown."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros(shape, np.uint8)).save(root / 'a.png', exif=exif)
    path = write(root, line(image='a.png'), line(image='a.png', height=shape[0], width=shape[1]))
    assert check(path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f'warning: line 1 names the image {root}/a.png, which is turned or mirrored by its EXIF '
        f'tag ({orientation}), and its size does not tell whether its annotation is too: compare the two'
    )
    assert lines[1:] == [f'{path}: 2 lines, 2 good sentences, 0 problems, 1 warnings']


def test_a_turned_picture_without_a_size_gets_a_warning(root, capsys):
    """A mask image has the picture's size, or is refused."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(root / 'a.png', exif=exif)
    Image.fromarray(np.eye(60, 40, dtype=np.uint8)).save(root / 'mask.png')
    for more, warned in (dict(), True), (dict(height=60, width=40), False), (dict(bbox=None, mask='mask.png'), False):
        assert check(write(root, line(image='a.png', **more))) == 0
        assert ('give "height" and "width" of the picture on which it was drawn' in capsys.readouterr().out) == warned


def test_a_mask_that_may_be_inverted_gets_a_warning(root, capsys):
    inside = np.ones((40, 60), np.uint8)
    inside[10:20, 20:30] = 0  # 100 of 2,400 pixels: 96 % inside
    Image.fromarray(inside).save(root / 'inverted.png')
    inside[0, 0] = 0
    Image.fromarray(inside).save(root / 'large.png')
    path = write(root, *(line(bbox=None, mask=name) for name in ('inverted.png', 'large.png')))
    assert check(path) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == [
        f'warning: line 1 names the mask {root}/inverted.png, which has 96% of its picture inside, with all corners: '
        'is it inverted?'
    ]


def test_sentences_that_contradict_each_other_or_repeat_get_a_warning(root, capsys):
    path = write(
        root,
        line(sentence='The  box'),
        line(sentence='the box'),
        line(sentence=None, sentences=['a', 'the box'], bbox=[1, 2, 9, 9]),
        line(sentence='the box', image='train2014/COCO_train2014_000000000002.jpg'),
    )
    assert check(path) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "warning: line 2 repeats 'the box' of line 1",
        "warning: line 3 says 'the box' of another object than line 1: say which is meant or, if both are, draw both "
        'in one line',
    ]


def test_doubts_about_a_whole_file_come_at_its_end(root, capsys):
    Image.fromarray(np.zeros((300, 400), np.uint8)).save(root / 'large.png')
    long = ' '.join('abcdefghijklmnopqrs')
    path = write(root, line(image='large.png'), line(image='large.png', bbox=[50, 60, 20, 30], sentence=long))
    assert check(path) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == [
        'warning: no coordinate is above 100, and all images are larger: they are pixels here, not percentages',
        'warning: 1 sentences have more than 18 words, one of line 2 has 19: with model.text_encoder.max_length=20, as '
        'in most configs, their ends are cut off',
    ]


def test_errors_say_what_to_do(root, capsys):
    latin = write(root, '')
    latin.write_bytes(json.dumps(line(sentence='größte'), ensure_ascii=False).encode('latin-1'))
    assert check(latin) == 1
    assert 'line 1 is not UTF-8 (' in capsys.readouterr().out
    path = write(
        root,
        line(image=IMAGE.replace('/', '\\')),
        line(bbox=None, segmentation=[[1, 1, 9, 1, 9, 9], dict(size=[40, 60], counts=[0, 9, 2391])]),
        line(category_id='pallet'),
    )
    assert check(path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f'; {IMAGE} is there')
    assert lines[1] == 'line 2 mixes polygons and RLEs in one list: give one kind'
    assert lines[2] == 'line 3 has \'pallet\' as "category_id", which must be int of 64 bits; a name may go into "kind"'
    with pytest.raises(InputError) as caught:
        ReferringJSONDataset(path.name, str(root), dict(img_path='', seg_map_path='my masks'))
    assert str(caught.value).endswith(f"check.py {path} --masks '{root}/my masks'` lists all errors")


def test_missing_and_empty_files(root, capsys):
    assert check(root / 'none.jsonl') == 1
    assert capsys.readouterr().err.startswith(f'error: Lines of JSON not found: {root}/none.jsonl')
    assert check(write(root, '')) == 1
    assert 'has no line' in capsys.readouterr().out


def convert(*arguments) -> int:
    return call_tool('dataset_converters/refcoco.py', *arguments)


@pytest.mark.parametrize('workers', [1, 2])
def test_images_are_checked_under_either_name(root, tmp_path, capsys, workers):
    """Image 1 is good under its name of 2017, 2 is cut off, 3 is missing."""
    folder = root / 'train2014'
    names = [folder / f'COCO_train2014_{number:012d}.jpg' for number in (1, 2, 3)]
    assert convert(root, '--out', tmp_path / 'out', '--check-images', '--workers', workers) == 0
    assert f'3 images in {folder}: 0 missing or unusable' in capsys.readouterr().out
    names[0].rename(folder / '000000000001.jpg')
    names[1].write_bytes(names[1].read_bytes()[:-800])
    names[2].unlink()
    assert convert(root, '--out', tmp_path / 'out', '--check-images', '--workers', workers) == 1
    lines = capsys.readouterr().out.splitlines()
    bad = [line for line in lines if line.startswith('COCO_')]
    assert len(bad) == 2
    assert bad[0].startswith(f'{names[1].name} does not decode: ') and bad[1] == f'{names[2].name} is missing'
    assert lines[-1] == f'3 images in {folder}: 2 missing or unusable'


def test_image_of_another_size_and_turned_image_are_found(root, tmp_path, capsys):
    folder = root / 'train2014'
    first, second, third = (folder / f'COCO_train2014_{number:012d}.jpg' for number in (1, 2, 3))
    cv2.imwrite(str(first), np.zeros((60, 40, 3), np.uint8))
    exif = Image.Exif()
    for path, exif[0x0112] in ((second, 6), (third, 3)):  # Orientation: to be shown turned by 90 and 180 degrees
        Image.open(path).save(path, exif=exif)
    folder.rename(tmp_path / 'elsewhere')
    assert (
        convert(root, '--out', tmp_path / 'out', '--images', tmp_path / 'elsewhere', '--check-images', '--workers', 1)
        == 1
    )
    out = capsys.readouterr().out
    assert f'{first.name} is 60 x 40, not 40 x 60 (height x width)' in out
    assert f'{second.name} is turned by its EXIF tag' in out
    assert f'{third.name} is turned or mirrored by its EXIF tag (3)' in out


def test_images_may_be_in_several_folders(root, tmp_path, capsys):
    """Like those of RefCLEF and COCO. Images in none of them are missing."""
    first, second = (root / 'train2014' / f'COCO_train2014_{number:012d}.jpg' for number in (1, 2))
    (root / 'saiapr_tc-12').mkdir()
    first.rename(root / 'saiapr_tc-12' / first.name)
    second.unlink()
    assert convert(root, '--out', tmp_path / 'out', '--check-images') == 1
    named = ['--images', root / 'train2014', '--images', root / 'saiapr_tc-12']
    assert convert(root, '--out', tmp_path / 'out', '--check-images', *named) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if 'missing' in line]
    assert lines == 2 * [
        f'{second.name} is missing',
        f'3 images in {root}/train2014 and {root}/saiapr_tc-12: 1 missing or unusable',
    ]


def test_missing_folder_of_images_is_named_early(root, tmp_path, capsys):
    (root / 'train2014').rename(root / 'photos')
    for images in ([], ['--images', root / 'photos', '--images', root / 'none']):
        assert convert(root, '--out', tmp_path / 'out', '--check-images', *images) == 1
        assert 'name it by --images' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
