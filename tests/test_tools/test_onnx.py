"""Exported models: the same numbers as PyTorch's at any batch and length, and the same masks without torch."""
import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / 'test_models'))

from tiny import ARCH, VOCABULARY, backbone, decode_head, segmentor, text_encoder  # noqa: E402

from dit_sam.errors import InputError  # noqa: E402

pytest.importorskip('onnxscript', reason='onnxscript is not installed: pip install -e .[onnx]')
pytest.importorskip('onnxruntime', reason='onnxruntime is not installed: pip install -e .[onnx]')

if not hasattr(torch.compiler, 'is_exporting'):
    pytest.skip('exporting needs torch 2.7', allow_module_level=True)

TOOLS = Path(__file__).parents[2] / 'tools' / 'deployment'
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32), keep_ratio=True)]


@pytest.fixture(scope='module')
def tool() -> dict:
    return runpy.run_path(str(TOOLS / 'export_onnx.py'))


def tiny(instruction: dict | None, **parts) -> torch.nn.Module:
    """A block in windows, which pad, and one without; a layer each of BERT and of the decoder."""
    # Weights of chance may segment all or nothing, of which a comparison says little.
    torch.manual_seed(0)
    instruction = None if instruction is None else dict(instruction, text_dims=16)
    encoder = text_encoder()
    encoder['model']['num_hidden_layers'] = 1
    return segmentor(text_encoder=encoder, backbone=backbone(arch=dict(ARCH, depth=2), instruction=instruction),
                     decode_head=decode_head(depth=1, **parts))


# Every other scheme has a part of these two.
SCHEMES = {
    'E-DIT, static, no-target': dict(instruction=dict(type='EndToEndStaticInstruction', max_length=8),
                                     type='GeneralizedSAMHead'),
    'CrossAtt': dict(instruction=dict(type='CrossAttentionInstruction', attn_dims=16, num_heads=2)),
}


@pytest.mark.parametrize('scheme', SCHEMES)
def test_export_agrees_with_pytorch(scheme, tool, tmp_path):
    """Batches of 1 and 3, 2 and 7 and 8 tokens (as many as it takes), with and without padding."""
    model, path = tool['OnnxModel'](tiny(**SCHEMES[scheme])), tmp_path / 'tiny.onnx'
    tool['export'](model, (32, 32), path, optimize=False)
    assert len(list(tool['examples']((32, 32), 8, 20))) == 12
    assert tool['largest_difference'](model, (32, 32), path) < 1e-5
    assert len(model.output_names) == 1 + ('no-target' in scheme)
    if 'no-target' in scheme:
        segments_as_the_model_does(model, tool, path)


def segments_as_the_model_does(model, tool, path):
    """The runtime example on a picture that is not square, against the model with its preprocessor."""
    head = model.model.decode_head
    head.threshold, head.no_target_threshold = 0.5, 2.
    settings = tool['settings_of'](model.model, PIPELINE)
    path.with_suffix('.json').write_text(json.dumps(settings))
    model.model.text_encoder.tokenizer.backend_tokenizer.save(str(path.with_suffix('.tokenizer.json')))
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    sentences = ['the red box', 'cat', 'the small blue box on the left']  # of 10 tokens 8 are kept
    masks = runpy.run_path(str(TOOLS / 'run_onnx.py'))['OnnxSegmenter'](path)(image, sentences)
    expected = predict(model.model, image, sentences)
    assert masks.shape == (3, 48, 80) and masks.dtype == bool
    assert (masks != expected).mean() < 1e-3 and 0.05 < masks.mean() < 0.95
    settings['no_target_threshold'] = -1.
    path.with_suffix('.json').write_text(json.dumps(settings))
    assert not runpy.run_path(str(TOOLS / 'run_onnx.py'))['OnnxSegmenter'](path)(image, sentences).any()


def predict(model, image: np.ndarray, sentences: list) -> np.ndarray:
    """The model's masks, (S, H, W)."""
    from mmseg.structures import SegDataSample
    resized = torch.from_numpy(cv2.resize(image, (32, 19)).transpose(2, 0, 1).copy())
    samples = [SegDataSample(metainfo=dict(text=text, img_shape=(19, 32), ori_shape=(48, 80))) for text in sentences]
    results = model.test_step(dict(inputs=[resized] * len(sentences), data_samples=samples))
    return np.stack([result.pred_sem_seg.data[0].numpy() == 1 for result in results])


def test_settings_say_how_pictures_are_prepared(tool):
    model = tiny(None)
    settings = tool['settings_of'](model, PIPELINE)
    assert settings['input_size'] == settings['resize_to'] == [32, 32] and settings['max_length'] == 8
    assert settings['pad_id'] == VOCABULARY.index('[PAD]') and 'no_target_threshold' not in settings
    assert tool['settings_of'](model, PIPELINE, 64)['input_size'] == [64, 64]


def test_what_cannot_be_exported_is_refused(tool):
    model = tiny(None)
    with pytest.raises(InputError, match='one Resize, with a scale of two numbers and keep_ratio=True'):
        tool['settings_of'](model, PIPELINE[:1])
    model.data_preprocessor.size = None
    with pytest.raises(InputError, match='give --size'):
        tool['settings_of'](model, PIPELINE)
    model.text_encoder = None
    with pytest.raises(InputError, match='model.text_encoder is NoneType: only HuggingFaceTextEncoder can be exported'):
        tool['OnnxModel'](model)
