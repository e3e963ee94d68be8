"""Exported models: the same numbers as PyTorch's at any batch and length, and the same masks without torch."""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

sys.path.append(str(Path(__file__).parents[1] / 'test_models'))

from tiny import ARCH, VOCABULARY, backbone, decode_head, segmentor, text_encoder

from dit_sam.errors import InputError

pytest.importorskip('onnxscript', reason='onnxscript is not installed: pip install -e .[onnx]')
pytest.importorskip('onnxruntime', reason='onnxruntime is not installed: pip install -e .[onnx]')

if not hasattr(torch.compiler, 'is_exporting'):
    pytest.skip('exporting needs torch 2.7', allow_module_level=True)

TOOLS = Path(__file__).parents[2] / 'tools' / 'deployment'
# The exporter imports its neighbor by name.
sys.path.append(str(TOOLS))
RUNTIME = str(TOOLS / 'run_onnx.py')
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32), keep_ratio=True)]
JPEG = cv2.imencode('.jpg', np.eye(99, dtype=np.uint8) * 255)[1].tobytes()
NARROW = cv2.imencode('.png', np.zeros((1, 900), np.uint8))[1].tobytes()


@pytest.fixture(scope='module')
def tool() -> dict:
    return runpy.run_path(str(TOOLS / 'export_onnx.py'))


def tiny(instruction: dict | None, out_indices: tuple = (-1,), neck: dict | None = None, **parts) -> torch.nn.Module:
    """A block in windows, which pad, and one without; a layer each of BERT and of the decoder."""
    # Random weights may segment everything or nothing, which makes a comparison meaningless.
    torch.manual_seed(0)
    instruction = None if instruction is None else dict(instruction, text_dims=16)
    encoder = text_encoder()
    encoder['model']['num_hidden_layers'] = 1
    return segmentor(
        text_encoder=encoder,
        backbone=backbone(arch=dict(ARCH, depth=2), instruction=instruction, out_indices=out_indices),
        neck=neck,
        decode_head=decode_head(depth=1, **parts),
    )


# This scheme and the first one in two graphs cover the parts of all others.
def test_export_agrees_with_pytorch(tool, tmp_path):
    """Batches of 1 and 3, 2 and 7 and 8 tokens (as many as it takes), with and without padding."""
    static = dict(type='EndToEndStaticInstruction', max_length=8)
    model, path = tool['OnnxModel'](tiny(instruction=static, type='GeneralizedSAMHead')), tmp_path / 'tiny.onnx'
    settings = tool['export'](model, (32, 32), path, optimize=False)
    assert len(list(tool['examples']((32, 32), 8, 20))) == 12
    assert tool['largest_difference'](model, (32, 32), path) < 1e-5
    assert len(model.output_names) == 2
    segments_as_the_model_does(model, tool, path, settings)


# The trunk is tokens and a map; or the map of the neck.
SPLIT = {
    'late': dict(
        instruction=dict(type='CrossAttentionInstruction', start=1, attn_dims=16, num_heads=2),
        out_indices=(0, 1),
        type='GeneralizedSAMHead',
    ),
    'default': dict(instruction=None, neck=dict(type='FPN', in_channels=[16], out_channels=16, num_outs=1)),
}


@pytest.mark.parametrize('scheme', SPLIT)
def test_two_graphs_agree_with_pytorch(scheme, tool, tmp_path):
    """1, 3 and 5 sentences about an image, of 2 and 7 and 8 tokens, with and without padding."""
    model, path = tool['OnnxModel'](tiny(**SPLIT[scheme])), tmp_path / 'tiny.onnx'
    settings = tool['export_split'](model, (32, 32), path, optimize=False)
    assert len(list(tool['examples']((32, 32), 8, 20, one_image=True))) == 18
    assert len(settings['trunk']) == (2 if scheme == 'late' else 1)
    assert tool['largest_difference'](model, (32, 32), path, settings['trunk']) < 1e-5
    if scheme == 'late':
        segments_as_the_model_does(model, tool, path, settings)


def segments_as_the_model_does(model, tool, path, of_export):
    """The runtime example on a picture that is not square, against the model with its preprocessor."""
    head = model.model.decode_head
    head.threshold, head.no_target_threshold = 0.5, 2.0
    settings = tool['settings_of'](model.model, PIPELINE) | of_export
    tool['write_settings'](settings, model.model.text_encoder.tokenizer, path)
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    sentences = ['the red box', '[SEP] cat', 'the small blue box on the left']  # of 10 tokens 8 are kept
    segmenter = runpy.run_path(RUNTIME)['OnnxSegmenter'](path)
    masks, view = segmenter(image, (sentence for sentence in sentences)), segmenter.open(image)
    # What is open needs the graph of the image no more.
    segmenter.image_graph = None
    assert np.array_equal(view(sentences), masks) and np.array_equal(view(sentences[:1]), masks[:1])
    expected = predict(model.model, image, sentences)
    assert masks.shape == (3, 48, 80) and masks.dtype == bool
    assert (masks != expected).mean() < 1e-3 and 0.05 < masks.mean() < 0.95
    settings = json.loads(path.with_suffix('.json').read_text())
    path.with_suffix('.json').write_text(json.dumps(dict(settings, no_target_threshold=-1.0)))
    assert not runpy.run_path(RUNTIME)['OnnxSegmenter'](path)(image, sentences).any()


def predict(model, image: np.ndarray, sentences: list) -> np.ndarray:
    """The model's masks, (S, H, W)."""
    from mmseg.structures import SegDataSample

    resized = torch.from_numpy(cv2.resize(image, (32, 19)).transpose(2, 0, 1).copy())
    samples = [SegDataSample(metainfo=dict(text=text, img_shape=(19, 32), ori_shape=(48, 80))) for text in sentences]
    results = model.test_step(dict(inputs=[resized] * len(sentences), data_samples=samples))
    return np.stack([result.pred_sem_seg.data[0].numpy() == 1 for result in results])


def test_settings_describe_the_preprocessing(tool):
    model = tiny(None)
    settings = tool['settings_of'](model, PIPELINE)
    assert settings['input_size'] == settings['resize_to'] == [32, 32] and settings['max_length'] == 8
    assert settings['pad_id'] == VOCABULARY.index('[PAD]') and 'no_target_threshold' not in settings
    assert tool['settings_of'](model, PIPELINE, 64)['input_size'] == [64, 64]


def test_failed_exports_replace_no_files(tool, tmp_path, monkeypatch):
    """ONNX Runtime reads fake models and refuses them. A graph of the image does not outlive its export."""

    def fake(model, size, path):
        path.write_bytes(b'no model')
        return dict(export='1')

    def fake_split(model, size, path):
        fake(model, size, path)
        fake(model, size, path.with_suffix('.image.onnx'))
        return dict(trunk=['trunk_0'], export='1')

    for suffix in ('onnx', 'json', 'tokenizer.json', 'image.onnx', 'onnx.data'):
        (tmp_path / f'a.{suffix}').write_text('before')
    monkeypatch.setitem(tool['write'].__globals__, 'export', fake)
    monkeypatch.setitem(tool['write'].__globals__, 'export_split', fake_split)
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=PIPELINE))))
    arguments = (SimpleNamespace(model=tiny(None), cfg=cfg), None, tmp_path / 'a.onnx')
    for split in (False, True):
        with pytest.raises(Exception, match='no model|INVALID_PROTOBUF'):
            tool['write'](*arguments, check=True, split=split)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['before'] * 5
    for split in (True, False):
        assert tool['write'](*arguments, check=False, split=split) == sorted(tmp_path.iterdir())
        assert len(list(tmp_path.iterdir())) == 3 + split
        assert 'before' not in {path.read_text() for path in tmp_path.iterdir()}
        assert ('trunk' in json.loads((tmp_path / 'a.json').read_text())) == split


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
    model = tiny(None)
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


def test_unsupported_models_are_refused(tool):
    model = tiny(dict(type='LayerWiseInstruction'))
    with pytest.raises(InputError, match='one Resize, with a scale of two numbers and keep_ratio=True'):
        tool['settings_of'](model, PIPELINE[:1])
    with pytest.raises(InputError, match='Resize must be bilinear and by OpenCV, as run_onnx.py resizes'):
        tool['settings_of'](model, [PIPELINE[0], dict(PIPELINE[1], backend='pillow')])
    with pytest.raises(InputError, match='cannot apply CLAHE of the test pipeline'):
        tool['settings_of'](model, [*PIPELINE, dict(type='CLAHE')])
    with pytest.raises(InputError, match='reads images as cv2 does: leave color_type of LoadImageFromFile out'):
        tool['settings_of'](model, [dict(PIPELINE[0], color_type='unchanged'), PIPELINE[1]])
    model.data_preprocessor.bgr_to_rgb = False
    with pytest.raises(InputError, match='gives the model RGB: set data_preprocessor.bgr_to_rgb=True'):
        tool['settings_of'](model, PIPELINE)
    model.data_preprocessor.bgr_to_rgb = True
    model.data_preprocessor.place = 'corner'
    with pytest.raises(InputError, match='run_onnx.py centers images'):
        tool['settings_of'](model, PIPELINE)
    model.data_preprocessor.place, model.data_preprocessor.size = 'middle', None
    with pytest.raises(InputError, match='give --size'):
        tool['settings_of'](model, PIPELINE)
    model.backbone.trunk = lambda image: None
    with pytest.raises(InputError, match='DITViT takes text and has no `trunk`, .* leave out --split'):
        tool['export_split'](tool['OnnxModel'](model), (32, 32), None)
    model.text_encoder = None
    with pytest.raises(InputError, match='model.text_encoder is NoneType: only HuggingFaceTextEncoder can be exported'):
        tool['OnnxModel'](model)
