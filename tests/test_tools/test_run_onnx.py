"""run_onnx.py and the files beside a model: what is wrong with them or with a picture is one line."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

sys.path.append(str(Path(__file__).parents[1] / 'test_models'))

from tiny import segmentor

pytest.importorskip('onnxscript', reason='onnxscript is not installed: pip install -e .[onnx]')
pytest.importorskip('onnxruntime', reason='onnxruntime is not installed: pip install -e .[onnx]')

TOOLS = Path(__file__).parents[2] / 'tools' / 'deployment'
# The exporter imports its neighbor by name.
sys.path.append(str(TOOLS))
RUNTIME = str(TOOLS / 'run_onnx.py')
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32), keep_ratio=True)]
JPEG = cv2.imencode('.jpg', np.eye(99, dtype=np.uint8) * 255)[1].tobytes()
NARROW = cv2.imencode('.png', np.zeros((1, 900), np.uint8))[1].tobytes()


def save_graph(path: Path, inputs: tuple = ('image', 'input_ids', 'attention_mask'), size=(32, 32), export='1') -> None:
    import onnx

    make, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    given = [
        make(name, kinds.FLOAT, ['batch', 3, *size])
        if name == 'image'
        else make(name, kinds.INT64, ['batch', 'length'])
        for name in inputs
    ]
    ends = [onnx.numpy_helper.from_array(np.array([value]), name) for name, value in (('a', 0), ('b', 1))]
    node = onnx.helper.make_node('Slice', ['image', 'a', 'b', 'b'], ['mask_logits'])
    graph = onnx.helper.make_graph([node], 'a', given, [make('mask_logits', kinds.FLOAT, ['batch', 1, *size])], ends)
    opset = onnx.helper.make_opsetid('', 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.helper.set_model_props(model, dict(export=export))
    onnx.save(model, path)


@pytest.fixture
def exported(tmp_path, monkeypatch) -> Path:
    """A model whose logits are the first channel, with its files and a picture, in the current folder."""
    save_graph(tmp_path / 'a.onnx')
    model = segmentor()
    tool = runpy.run_path(str(TOOLS / 'export_onnx.py'))
    settings = tool['settings_of'](model, PIPELINE) | dict(export='1')
    tool['write_settings'](settings, model.text_encoder.tokenizer, tmp_path / 'a.onnx')
    cv2.imwrite(str(tmp_path / 'photo.png'), np.zeros((4, 4, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    'name, content, message',
    [
        ('a.onnx', None, 'a.onnx not found: export_onnx.py writes NAME.onnx, NAME.json and NAME.tokenizer.json, with'),
        ('a.json', None, 'a.json not found: export_onnx.py writes'),
        ('a.tokenizer.json', None, 'a.tokenizer.json not found: export_onnx.py writes'),
        ('a.onnx', 'x', 'a.onnx is damaged ('),
        ('a.json', '{"mean":', 'a.json is damaged (Expecting value: '),
        ('a.json', '{}', 'a.json is damaged (it lacks input_size): write it again with export_onnx.py'),
        ('a.tokenizer.json', '{', 'a.tokenizer.json is damaged ('),
        (
            'a.tokenizer.json',
            Tokenizer(WordLevel({'a': 0, '[UNK]': 1}, '[UNK]')).to_str(),
            'a.tokenizer.json and a.json are of different exports: copy the files of one export together',
        ),
        ('photo.png', None, 'image photo.png not found: check the path'),
        (
            'photo.png',
            '',
            'image photo.png cannot be decoded: it is damaged or cut off, has more than 2^30 pixels, or is',
        ),
        ('photo.png', JPEG[: len(JPEG) // 2], 'image photo.png cannot be decoded: it is damaged or cut off'),
        ('photo.png', NARROW, 'an image of 900 x 1 pixels is too narrow: nothing is left of it at the size'),
    ],
)
def test_the_runtime_names_the_wrong_file(exported, error_of, name, content, message):
    (exported / name).unlink()
    if content is not None:
        (exported / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert error_of(RUNTIME, 'a.onnx', 'photo.png', 'a star', alone=True).startswith(message)


def test_the_runtime_names_the_wrong_graph_of_the_image(exported, error_of):
    settings = json.loads((exported / 'a.json').read_text())
    (exported / 'a.json').write_text(json.dumps(dict(settings, trunk=['x'])))
    arguments = (RUNTIME, 'a.onnx', 'photo.png', 'a star')
    message = error_of(*arguments, alone=True)
    assert message.startswith('a.image.onnx not found: export_onnx.py writes')
    assert message.endswith('with --split also NAME.image.onnx, which belong together')
    (exported / 'a.image.onnx').write_text('x')
    assert error_of(*arguments, alone=True).startswith('a.image.onnx is damaged (')
    (exported / 'a.image.onnx').write_bytes((exported / 'a.onnx').read_bytes())
    message = error_of(*arguments, alone=True)
    assert message.startswith('a.image.onnx and a.json are of different exports: copy the files of one export together')


def test_the_runtime_refuses_settings_of_another_export(exported, error_of):
    arguments, settings = (RUNTIME, 'a.onnx', 'photo.png', 'a star'), json.loads((exported / 'a.json').read_text())
    (exported / 'a.json').write_text(json.dumps(dict(settings, input_size=[48, 32])))
    message = error_of(*arguments, alone=True)
    assert message.startswith('a.json: input_size is [48, 32], and the graph takes [32, 32], which is fixed at export')
    (exported / 'a.json').write_text(json.dumps(dict(settings, export='2')))
    message = error_of(*arguments, alone=True)
    assert message.startswith('a.onnx and a.json are of different exports: copy the files of one export together')
    settings.pop('export')
    (exported / 'a.json').write_text(json.dumps(settings))
    assert error_of(*arguments, alone=True).startswith('a.json is damaged (it lacks export): write it again with')


def test_the_exporter_replaces_only_its_own_settings(exported, error_of):
    for text in ('{"hidden_size": 4}', '[1]', 'no json'):
        (exported / 'config.json').write_text(text)
        message = error_of('deployment/export_onnx.py', 'none.py', 'none', '--out', 'config.onnx')
        assert message.startswith('config.json would be replaced, and is not the settings of an export: name another')
        assert (exported / 'config.json').read_text() == text
    # The next error.
    for out in ('a.onnx', 'new.onnx'):
        message = error_of('deployment/export_onnx.py', 'none.py', 'none', '--out', out)
        assert message.startswith('config none.py not found')


def test_the_segmenter_checks_what_a_program_gives_it(exported):
    tool = runpy.run_path(RUNTIME)
    segmenter, image = tool['OnnxSegmenter']('a.onnx', threads=1), np.zeros((20, 30, 3), np.uint8)
    for wrong, form in (
        (image[..., 0], r'uint8, \(20, 30\): convert gray'),
        (np.zeros((20, 30, 4), np.uint8), r'uint8, \(20, 30, 4\): convert gray or RGBA with cv2.cvtColor'),
        (image[:0], r'uint8, \(0, 30, 3\)'),
        (image / 255, 'float64'),
        ('photo.png', 'str'),
        (None, 'NoneType'),
    ):
        with pytest.raises(ValueError, match=rf'an image must be an array \(H, W, 3\) of uint8, .* is {form}'):
            segmenter(wrong, ['a star'])
    for wrong, message in (
        ('a star', 'give a list with at least one sentence'),
        (iter(()), 'give a list with at least one sentence'),
        (None, 'give a list with at least one sentence'),
        (['a star', 3], '3 is no sentence: give a text'),
        (['a star', ' '], 'a sentence is empty: say what to segment'),
    ):
        with pytest.raises(ValueError, match=message):
            segmenter(image, wrong)
    assert segmenter(image, np.array(['a star', 'the box'])).shape == (2, 20, 30)


def test_memory_does_not_grow_by_floats_of_every_sentence(exported):
    """Only the boolean masks do, a byte per pixel and sentence."""
    import tracemalloc

    view = runpy.run_path(RUNTIME)['OnnxSegmenter']('a.onnx').open(np.zeros((1000, 1000, 3), np.uint8))
    tracemalloc.start()
    view(['a star'] * 16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 16e6 < peak < 16e6 + 16e6


def test_a_gpu_is_used_first_where_there_is_one(exported, monkeypatch):
    tool = runpy.run_path(RUNTIME)
    built_in = ['TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setitem(tool['available_providers'].__globals__, 'get_available_providers', lambda: built_in)
    assert tool['available_providers']() == built_in[1:]
    segmenter = tool['OnnxSegmenter']('a.onnx', providers=['CPUExecutionProvider'], threads=1)
    assert segmenter.graph.get_providers() == ['CPUExecutionProvider']
    assert segmenter.graph.get_session_options().intra_op_num_threads == 1


def test_the_runtime_refuses_a_folder(exported, error_of, monkeypatch):
    assert error_of(RUNTIME, 'a.onnx', '.', 'a star', alone=True).startswith('. is a folder: name one image')
    # The line is the last one with a traceback, too.
    monkeypatch.setenv('DIT_SAM_DEBUG', '1')
    assert error_of(RUNTIME, 'a.onnx', '.', 'a star').startswith('. is a folder: name one image')


def test_the_runtime_refuses_a_picture_of_the_other_orientation(exported, error_of):
    settings = json.loads((exported / 'a.json').read_text())
    (exported / 'a.json').write_text(json.dumps(dict(settings, input_size=[16, 32], resize_to=[32, 16])))
    save_graph(exported / 'a.onnx', size=(16, 32))
    cv2.imwrite('photo.png', np.zeros((64, 30, 3), np.uint8))
    message = error_of(RUNTIME, 'a.onnx', 'photo.png', 'a star', alone=True)
    assert message.startswith('an image of 30 x 64 pixels becomes one of 15 x 32, which does not fit the input')


def test_the_runtime_refuses_an_empty_sentence(exported, error_of):
    message = error_of(RUNTIME, 'a.onnx', 'photo.png', 'a star', ' ', alone=True)
    assert message == 'a sentence is empty: say what to segment'


def test_masks_are_written_atomically_and_replace_none(tmp_path):
    tool = runpy.run_path(RUNTIME)
    write_mask = tool['write_mask']
    for expected in ('photo_mask1.png', 'photo_mask1_2.png', 'photo_mask1_3.png'):
        path = tool['free_path'](str(tmp_path / 'masks'), 'photo_mask1')
        assert path.name == expected
        write_mask(path, np.ones((2, 2), bool))
    (tmp_path / 'a.png').mkdir()
    message = 'a.png could not be written: Is a directory; make room, or name another --out'
    with pytest.raises(ValueError, match=message):
        write_mask(tmp_path / 'a.png', np.ones((2, 2), bool))
    write_mask(tmp_path / 'b.png', np.eye(2, dtype=bool))
    assert sorted(path.name for path in tmp_path.glob('*.png')) == ['a.png', 'b.png']
    assert cv2.imread(str(tmp_path / 'b.png'), cv2.IMREAD_GRAYSCALE).tolist() == [[255, 0], [0, 255]]
