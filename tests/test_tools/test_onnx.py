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
