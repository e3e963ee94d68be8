"""tools/infer.py: pictures and sentences in any order, files out, one line on bad input."""

import json
import os
import re
import resource
import subprocess
import sys
from argparse import Namespace
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from processes import ROOT, call_tool
from pycocotools import mask as coco_mask
from safetensors.torch import save_file

from dit_sam.apis import DEFAULT_CHECKPOINT, DEFAULT_CONFIG, InputError, ReferringInferencer, referring_inferencer
from dit_sam_cli.prediction_writer import write_predictions


def infer(*arguments) -> None:
    assert call_tool('infer.py', *arguments) == 0


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> str:
    torch.manual_seed(0)
    model = ReferringInferencer(DEFAULT_CONFIG, device='cpu').model
    for parameter in model.parameters():
        parameter.data.normal_(std=0.1)
    path = str(tmp_path_factory.mktemp('weights') / 'random.safetensors')
    save_file(model.state_dict(), path)
    return path


@pytest.fixture
def photo(tmp_path, monkeypatch) -> str:
    """A picture in the current folder."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('photo.png', np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    return 'photo.png'


def test_the_default_model_is_that_of_the_repository():
    assert Path(DEFAULT_CONFIG).is_file()
    assert Path(DEFAULT_CHECKPOINT).parts[-3:] == ('dit_sam', 'assets', 'ldit_vit-t_shapes.safetensors')


def test_pictures_and_masks_from_the_command_line(photo, weights):
    program = [sys.executable, ROOT / 'tools' / 'infer.py']
    command = [*program, photo, 'the red star', '--checkpoint', weights, '--out', 'out', 'circle']
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''})
    assert done.returncode == 0, done.stderr
    # The onedl forks first print which packages are missing.
    lines = done.stdout.splitlines()[-6:]
    masks = [os.path.join('out', 'pred', f'photo_{name}_1.png') for name in ('the-red-star', 'circle')]
    results, files = lines[:2], lines[2:]
    assert [re.sub(': (score [^,]*, .*|nothing found), mask ', ' -> ', line) for line in results] == [
        f'photo.png: the red star -> {masks[0]}',
        f'photo.png: circle -> {masks[1]}',
    ]
    assert files == ['written:', os.path.join('out', 'vis', 'photo_the-red-star-circle_1.png'), *masks]
    assert cv2.imread(lines[3]).shape[1] == 480
    for path in masks:
        mask = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        assert mask.shape == (30, 40) and set(np.unique(mask)) <= {0, 255}


def test_json_of_a_folder(photo, weights, capsys):
    cv2.imwrite('a.png', cv2.imread(photo)[:20])
    for number in (1, 2):
        infer('.', 'the red star', '--checkpoint', weights, '--out', 'out', '--format', 'json', '--device', 'cpu')
        assert capsys.readouterr().out.endswith(os.path.join('out', f'predictions_{number}.json') + '\n')
    assert sorted(os.listdir('out')) == ['predictions_1.json', 'predictions_2.json']
    content = json.loads(Path('out/predictions_1.json').read_text())
    assert content['config'] == DEFAULT_CONFIG and content['checkpoint'] == weights
    assert [prediction['img_path'] for prediction in content['predictions']] == ['./a.png', './photo.png']
    for prediction, size in zip(content['predictions'], ((20, 40), (30, 40))):
        mask = coco_mask.decode(prediction['segmentation'])
        assert mask.shape == size and mask.sum() == prediction['area']
        assert prediction['sentence'] == 'the red star' and 0 <= prediction['score'] <= 1


def test_coco_and_numpy_files_equal_the_json_file(photo, weights, capsys):
    for form in ('json', 'coco', 'npz'):
        infer(photo, 'the red star', 'circle', '--checkpoint', weights, '--out', 'out', '--format', form)
        capsys.readouterr()
    assert sorted(os.listdir('out')) == ['coco_1.json', 'predictions_1.json', 'predictions_1.npz']
    expected = json.loads(Path('out/predictions_1.json').read_text())['predictions']
    found = json.loads(Path('out/coco_1.json').read_text())
    assert found['images'] == [dict(id=1, file_name='photo.png', height=30, width=40)]
    assert [(one['sentence'], one['segmentation']) for one in found['annotations']] == [
        (one['sentence'], one['segmentation']) for one in expected
    ]
    with np.load('out/predictions_1.npz') as arrays:
        for number, one in enumerate(expected, 1):
            np.testing.assert_array_equal(arrays[f'mask_{number}'], coco_mask.decode(one['segmentation']))


def test_cutouts_and_the_threshold(photo, weights, capsys):
    """With the threshold 0 the whole picture is cut out, with 1 nothing."""
    command = (photo, 'the red star', '--checkpoint', weights, '--out', 'out', '--format', 'cutout', '--threshold')
    infer(*command, 1)
    assert capsys.readouterr().out == 'photo.png: the red star: nothing found\n'
    infer(*command, 0)
    line, _, path = capsys.readouterr().out.splitlines()
    assert line.endswith(f'1200 pixels in [0, 0, 40, 30], cutout {path}')
    cut = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(cut[..., :3], cv2.imread(photo))
    assert (cut[..., 3] == 255).all() and path == os.path.join('out', 'photo_the-red-star_1.png')


def test_pairs_of_a_file(photo, weights, error_of):
    """Each sentence is for the image of its line only; images are found beside the file, and lines keep their order."""
    os.mkdir('set')
    for name in ('a.png', 'b, c.png'):
        os.link(photo, os.path.join('set', name))
    file = Path('set', 'pairs.csv')
    command = ('--pairs', file, '--checkpoint', weights, '--format', 'jsonl', '--out', 'out')
    # With the mark of the byte order and the line ends of a spreadsheet.
    lines = ['sentence,id,image', 'the star,1,"b, c.png"', '"left, blue",2,a.png', 'circle,3,"b, c.png"', '']
    file.write_text('\r\n'.join(lines), encoding='utf-8-sig', newline='')
    infer(*command)
    found = [json.loads(line) for line in Path('out', 'predictions_1.jsonl').read_text().splitlines()]
    first, second = os.path.join('set', 'b, c.png'), os.path.join('set', 'a.png')
    expected = [(first, 'the star'), (first, 'circle'), (second, 'left, blue')]
    assert [(one['img_path'], one['sentence']) for one in found] == expected
    # A longer list continues where the first one ended.
    with file.open('a') as more:
        more.write('square,4,a.png\n')
    infer(*command, '--resume')
    assert len(Path('out', 'predictions_1.jsonl').read_text().splitlines()) == 4
    for content, message in [
        ('picture,sentence\na.png,x\n', 'has no column image: its first line names the columns'),
        ('', 'has no column image or sentence'),
        ('image,sentence\n', 'has no line after the names'),
        ('image,sentence\na.png,x\na.png\n', 'line 3: image or sentence is empty'),
        ('image,sentence\n.,x\n', 'line 2: set/. is a folder; name one image a line'),
        ('image,sentence\nd.png,x\n', 'image set/d.png not found'),
        ('image,sentence\na.png,"x\n', 'cannot be read as CSV in UTF-8'),
    ]:
        file.write_text(content)
        assert message in error_of('infer.py', *command), content
    assert '--pairs names the images and sentences' in error_of('infer.py', photo, 'x', '--pairs', file)
    assert 'name images and sentences, or a file with both' in error_of('infer.py', '--out', 'out')


def test_points_and_boxes_reach_the_model(photo, capsys):
    cv2.imwrite(photo, cv2.circle(np.full((30, 40, 3), 255, np.uint8), (20, 15), 9, (0, 0, 255), -1))

    def scores(*options):
        infer(photo, 'the red circle', 'circle', '--out', 'out', '--format', 'json', *options)
        path = capsys.readouterr().out.splitlines()[-1]
        return [one['score'] for one in json.loads(Path(path).read_text())['predictions']]

    points, box, boxes = (
        scores('--points', '3,4 20,9.5,0'),
        scores('--boxes', '0,0,9,9'),
        scores('--boxes', '0,0,9,9 10,10,40,30'),
    )
    assert boxes[0] == box[0] and len({*points, *box, *boxes}) == 5


def test_a_shared_model_gives_the_masks_of_its_config_and_weights(photo, weights, capsys):
    ReferringInferencer(DEFAULT_CONFIG, weights, device='cpu').save_pretrained('shared')
    found = []
    for source in (['--checkpoint', weights], ['--model', 'shared']):
        infer(photo, 'the red star', '--device', 'cpu', '--out', 'out', '--format', 'json', *source)
        found.append(json.loads(Path(capsys.readouterr().out.splitlines()[-1]).read_text()))
    assert found[0]['predictions'] == found[1]['predictions'] and found[1]['model'] == 'shared'


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['none.jpg', 'a star'], 'image none.jpg not found: check the path'),
        (
            ['a star', 'a circle'],
            "no image among the arguments: 'a star' is not a file or folder, and does not end in any of .avif, ",
        ),
        (['photo.png'], "no sentence among the arguments: 'photo.png' is a file or folder; say what to segment"),
        (['photo.png', 'a star', '--config', DEFAULT_CONFIG], '--config without --checkpoint: name the weights'),
        (['photo.png', 'a star', '--model', 'none'], "no model at 'none': it is neither a folder, nor user/name or "),
        (
            ['photo.png', 'a star', '--model', 'none', '--checkpoint', 'a.pth'],
            '--model brings its config and weights: leave out --config and --checkpoint',
        ),
        (['photo.png', 'a star', '--checkpoint', 'none.pth'], 'checkpoint none.pth not found: check the path'),
        (['photo.png', 'a star', '--checkpoint', 'photo.png'], 'checkpoint photo.png is damaged or not a checkpoint'),
        (['photo.png', 'a star', '--checkpoint', 'a.pth', '--config', 'none.py'], 'config none.py not found: '),
        (['photo.png', 'a star', '--threshold', '2'], '--threshold is a probability from 0 to 1, got 2'),
        (['photo.png', 'a star', '--resume'], '--resume continues a file of --format jsonl: add that'),
        (['photo.png', 'a star', '--points', '1,2;3'], "--points '1,2;3' is not groups of numbers like"),
        (['photo.png', 'a star', '--boxes', ''], "--boxes '' is not groups of numbers like"),
        (
            ['photo.png', 'a star', '--checkpoint', 'photo.png', '--config', '.'],
            'config . is a folder: name a file in it',
        ),
        (['photo.png', 'a star', '--out', 'photo.png/new'], 'photo.png/new cannot be written to: '),
        (['photo.png', 'a star', '--out', ''], 'the folder to write to has no name: name one'),
        (['photo.png', 'a star', '--device', 'zebra'], "there is no device 'zebra' here (Expected one of cpu, cuda, "),
        (['photo.png', 'a star', '--device', 'cuda:99'], "there is no device 'cuda:99' here ("),
    ],
)
def test_missing_input_is_a_one_line_error(photo, error_of, arguments, message):
    assert error_of('infer.py', *arguments).startswith(message)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['photo.png', ''], 'sentence 1 of 1 for photo.png is empty: say what to segment'),
        (['text.png', 'a star'], 'image text.png cannot be decoded: it is damaged or cut off, or of a format'),
        (['photo.png', 'a star', '--batch-size', '0'], '--batch-size must be 1 or more, got 0'),
        (
            ['photo.png', 'a star', '--boxes', '1,2,3'],
            'the box for photo.png is [1.0, 2.0, 3.0]: give left, top, right',
        ),
        (
            ['photo.png', 'a star', '--points', '41,3'],
            'the point (41, 3) is outside image photo.png: x goes from 0 to 40',
        ),
        (['photo.png', 'a star', '--font', 'none.ttf'], 'font none.ttf not found: name a .ttf or .otf file'),
    ],
)
def test_bad_input_gets_one_line(photo, weights, error_of, arguments, message):
    Path('text.png').write_text('no image')
    assert error_of('infer.py', *arguments, '--checkpoint', weights, '--device', 'cpu').startswith(message)


@pytest.mark.parametrize('form', ['json', 'coco'])
def test_names_that_are_not_utf_8_are_written_as_json_escapes(photo, weights, form):
    """As in old zip archives."""
    os.rename(photo, os.fsdecode(b'caf\xe9.png'))
    infer('.', 'a star', '--checkpoint', weights, '--device', 'cpu', '--format', form)
    (file,) = Path('work_dirs/infer').iterdir()
    assert '\\udce9' in file.read_text() and json.loads(file.read_text())


@pytest.mark.parametrize('form', ['png', 'json'])
def test_damaged_pictures_among_others_are_left_out_and_named(photo, weights, error_of, form):
    Path('text.png').write_text('no image')
    Path('cut.jpg').write_bytes(cv2.imencode('.jpg', cv2.imread(photo))[1].tobytes()[:-40])
    line = error_of('infer.py', '.', 'a star', '--checkpoint', weights, '--device', 'cpu', '--format', form)
    assert line.startswith('2 of 3 images left out: image ./cut.jpg cannot be decoded: it is damaged')
    assert '; image ./text.png cannot be decoded: ' in line
    if form == 'json':
        content = json.loads(Path('work_dirs/infer/predictions_1.json').read_text())
        assert [one['img_path'] for one in content['predictions']] == ['./photo.png']
    else:
        assert len(list(Path('work_dirs/infer/vis').glob('*.png'))) == 1


def test_a_picture_that_is_too_narrow_is_left_out_too(photo, weights, error_of):
    cv2.imwrite('narrow.png', np.zeros((900, 1, 3), np.uint8))
    command = ('infer.py', '.', 'a star', '--checkpoint', weights, '--device', 'cpu', '--format', 'json')
    assert error_of(*command).startswith('1 of 2 images left out: image ./narrow.png of 1×900 pixels is too narrow')
    assert len(json.loads(Path('work_dirs/infer/predictions_1.json').read_text())['predictions']) == 1


def test_lines_are_written_as_they_come_and_resumed(photo, weights, capsys, monkeypatch):
    """The second of three pictures is interrupted; then the program is killed within a line."""
    for name in 'abc':
        cv2.imwrite(f'{name}.png', cv2.imread(photo))
    os.remove(photo)
    command = ('infer.py', '.', 'a star', 'circle', '--checkpoint', weights, '--device', 'cpu', '--format', 'jsonl')
    prediction_of = referring_inferencer.prediction_of

    def stop(sample):
        if sample.img_path == './b.png':
            raise KeyboardInterrupt
        return prediction_of(sample)

    monkeypatch.setattr(referring_inferencer, 'prediction_of', stop)
    with pytest.raises(KeyboardInterrupt):
        call_tool(*command)
    path = Path('work_dirs/infer/predictions_1.jsonl')
    assert [json.loads(line)['sentence'] for line in path.read_text().splitlines()] == ['a star', 'circle']
    path.write_text(path.read_text() + '{"img_path": "./b.png", "sent')
    monkeypatch.setattr(referring_inferencer, 'prediction_of', prediction_of)
    capsys.readouterr()
    for expected in (['./b.png: a star', './b.png: circle', './c.png: a star', './c.png: circle'], []):
        assert call_tool(*command, '--resume') == 0
        printed = [line.rpartition(': ')[0] for line in capsys.readouterr().out.splitlines() if ': ' in line]
        assert printed == expected
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line['img_path'], line['sentence']) for line in lines] == [
        (f'./{name}.png', sentence) for name in 'abc' for sentence in ('a star', 'circle')
    ]
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    # One more sentence: only its lines are new.
    assert call_tool(*command[:4], 'star', *command[4:], '--resume') == 0
    assert [json.loads(line)['sentence'] for line in path.read_text().splitlines()][6:] == ['star'] * 3


@pytest.mark.parametrize('form', ['json', 'coco', 'npz'])
def test_a_full_disk_is_a_one_line_error_and_leaves_no_files(tmp_path, form):
    args = Namespace(format=form, out=str(tmp_path), model='', config='', checkpoint='')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(InputError, match=f'{tmp_path} could not be written: File too large; make room, or name '):
            write_predictions([], args)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_pictures_that_cannot_be_written_get_one_line(photo, weights, error_of):
    Path('out').mkdir()
    Path('out/vis').write_text('a file')
    message = error_of('infer.py', photo, 'a star', '--checkpoint', weights, '--out', 'out', '--device', 'cpu')
    assert message == 'out could not be written: File exists; make room, or name another place'


def test_weights_of_another_model_get_one_line(photo, error_of):
    save_file({'backbone.other': torch.zeros(1)}, 'other.safetensors')
    message = error_of('infer.py', photo, 'a star', '--checkpoint', 'other.safetensors')
    assert message.startswith('checkpoint other.safetensors does not fit config ')
    assert 'belong to different models' in message and '1 weights unknown: backbone.other' in message


def test_sentences_are_read_from_the_terminal(monkeypatch, tmp_path, capsys):
    """A wrong sentence ends only itself; an empty line ends the program."""
    cv2.imwrite(str(tmp_path / 'photo.png'), np.full((30, 40, 3), 200, np.uint8))
    monkeypatch.setattr('sys.stdin', StringIO('a star\n' + 'star \ud800\n' + 'circle\n\nnever read\n'))
    arguments = [tmp_path / 'photo.png', '--interactive', '--out', tmp_path / 'out']
    assert call_tool('infer.py', *arguments) == 0
    printed = capsys.readouterr()
    assert [line.split(': ')[1] for line in printed.out.splitlines() if 'photo.png: ' in line] == ['a star', 'circle']
    assert 'is not valid text' in printed.err
    assert sorted(path.name for path in (tmp_path / 'out' / 'vis').iterdir()) == [
        'photo_a-star_1.png',
        'photo_circle_1.png',
    ]


def test_interactive_use_takes_one_image(error_of, tmp_path):
    assert error_of('infer.py', tmp_path, '--interactive').startswith('--interactive takes one image file')
