"""The settings beside an exported model, which ``export_onnx.py`` writes and ``run_onnx.py`` reads."""

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import nn

from dit_sam.apis.pairs import TRUTH_STEPS
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.config_check import class_name
from dit_sam.models.decode_heads import GeneralizedSAMHead

# Steps of a test pipeline that `run_onnx.py` does too, or that read the ground truth.
RESIZES = ('Resize', 'ReferringResize')
STEPS = ('LoadImageFromFile', *RESIZES, 'PackReferringInputs', *TRUTH_STEPS)
# Keys of the first one that do not change the pixels.
LOADS = ('type', 'to_float32', 'ignore_empty', 'backend_args')
# Keys of the settings of every export, of earlier versions too.
KEYS = {'input_size', 'resize_to', 'max_length', 'threshold'}


def check_pipeline(pipeline: list[dict]) -> dict:
    """The Resize of a test pipeline that `run_onnx.py` can follow.

    Raises:
        InputError: It cannot.
    """
    others = [name for name in map(class_name, pipeline) if name not in STEPS]
    if others:
        raise InputError(f'run_onnx.py cannot apply {others[0]} of the test pipeline: leave it out')
    loads = {key for step in pipeline if class_name(step) == 'LoadImageFromFile' for key in step if key not in LOADS}
    if loads:
        raise InputError(f'run_onnx.py reads images as cv2 does: leave {min(loads)} of LoadImageFromFile out')
    resizes = [step for step in pipeline if class_name(step) in RESIZES]
    if len(resizes) != 1 or not resizes[0].get('keep_ratio') or not isinstance(resizes[0].get('scale'), (tuple, list)):
        raise InputError('the test pipeline must have one Resize, with a scale of two numbers and keep_ratio=True')
    if {resizes[0].get('backend', 'cv2'), resizes[0].get('interpolation', 'bilinear')} != {'cv2', 'bilinear'}:
        raise InputError(
            'Resize must be bilinear and by OpenCV, as run_onnx.py resizes: leave its backend and interpolation out'
        )
    return resizes[0]


def settings_of(model: nn.Module, pipeline: list[dict], size: int | None = None) -> dict:
    """How to make inputs from images and sentences, and masks from logits, as plain values.

    Args:
        model: A `ReferringSegmentor`.
        pipeline: Config of the test pipeline.
        size: Replaces the sizes of the preprocessor and of the pipeline.

    Raises:
        InputError: `run_onnx.py` cannot prepare images or sentences in this way, or there is no size.
    """
    encoder, preprocessor = model.text_encoder, model.data_preprocessor
    if not encoder.tokenizer.is_fast:
        raise InputError(
            f'{type(encoder.tokenizer).__name__} has no tokenizer.json, which run_onnx.py reads: it cannot be exported'
        )
    resize = check_pipeline(pipeline)
    if not preprocessor.bgr_to_rgb:
        raise InputError('run_onnx.py gives the model RGB: set data_preprocessor.bgr_to_rgb=True')
    if preprocessor.place != 'middle':
        raise InputError("run_onnx.py centers images: set data_preprocessor.place='middle'")
    if size is None and preprocessor.size is None:
        raise InputError('the config has no data_preprocessor.size, and an exported model needs one: give --size')
    settings = dict(
        input_size=[size, size] if size else list(preprocessor.size),
        resize_to=[size, size] if size else list(resize['scale']),
        mean=preprocessor.mean.flatten().tolist(),
        std=preprocessor.std.flatten().tolist(),
        max_length=encoder.max_length,
        pad_id=encoder.tokenizer.pad_token_id,
        pad_to_max_length=encoder.pads_to_max_length,
        threshold=model.decode_head.threshold,
    )
    if isinstance(model.decode_head, GeneralizedSAMHead):
        settings['no_target_threshold'] = model.decode_head.no_target_threshold
    return settings


def write_settings(settings: dict, tokenizer: Any, path: Path) -> None:
    """Write the tokenizer and, with its hash, the settings beside `path`."""
    file = path.with_suffix('.tokenizer.json')
    tokenizer.backend_tokenizer.save(str(file))
    settings = dict(settings, tokenizer_sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    path.with_suffix('.json').write_text(json.dumps(settings, indent=1), encoding='utf-8')


def check_settings_file(path: Path) -> None:
    """Raise `InputError` if a file is where settings are written, and is something else."""
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        found = None
    if not (isinstance(found, dict) and found.keys() >= KEYS):
        raise InputError(
            f'{path} would be replaced, and is not the settings of an export: name another --out, or remove it'
        )
