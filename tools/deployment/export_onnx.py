"""Export a model to ONNX: ``tools/deployment/export_onnx.py CONFIG CHECKPOINT --out model.onnx [--check]``.

Writes the model, ``model.tokenizer.json``, and ``model.json``, which says how to prepare images and sentences and how
to read masks. ``run_onnx.py`` shows how to use the three without torch and OpenMMLab.

Inputs: ``image``, float32 (batch, 3, H, W), normalized and padded; ``input_ids`` and ``attention_mask``, int64 (batch,
length). Outputs: ``mask_logits``, float32 (batch, 1, H, W), and, if the head predicts it, ``no_target``, the
probability that the sentence has no target, (batch,). Batch and length are free; height and width are fixed.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from dit_sam_cli.arguments import add_config_options, let_threads_yield


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint: .pth or .safetensors; "none" leaves the weights random')
    parser.add_argument('--out', default='model.onnx', help='file to write; an existing one is replaced')
    parser.add_argument('--size', type=int, help="side of the model's square input; default: as in the config")
    parser.add_argument('--check', action='store_true', help='compare ONNX Runtime with PyTorch, and fail above 1e-4')
    add_config_options(parser)
    args = parser.parse_args()
    if not args.out.endswith('.onnx'):
        parser.error(f'--out {args.out}: the file to write must end in .onnx')
    if args.size is not None and args.size < 1:
        parser.error(f'--size is 1 or more, got {args.size}')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()
    let_threads_yield()

import numpy as np
import torch
from torch import Tensor, nn

from dit_sam.apis import ReferringInferencer
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import prepare_process
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models.data_preprocessor import ReferringDataPreProcessor
from dit_sam.models.decode_heads import GeneralizedSAMHead, SAMHead
from dit_sam.models.text_encoders import HuggingFaceTextEncoder
from dit_sam.utils import check_file, wrap_write_errors

INPUTS = ('image', 'input_ids', 'attention_mask')


class OnnxModel(nn.Module):
    """The exported part of a `ReferringSegmentor`: from pixels and tokens to mask logits.

    Args:
        model: Must have a `HuggingFaceTextEncoder` and a `SAMHead`.

    Raises:
        InputError: It has other parts.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, kind in (
            ('data_preprocessor', ReferringDataPreProcessor),
            ('decode_head', SAMHead),
            ('text_encoder', HuggingFaceTextEncoder),
        ):
            part = getattr(model, name, None)
            if not isinstance(part, kind):
                raise InputError(f'model.{name} is {type(part).__name__}: only {kind.__name__} can be exported')
        self.model = model
        self.eval()

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs of `forward`."""
        return ['mask_logits', 'no_target'][: 1 + isinstance(self.model.decode_head, GeneralizedSAMHead)]

    def forward(self, image: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        encoder, head = self.model.text_encoder, self.model.decode_head
        text = encoder.encode_tokens(input_ids, attention_mask)
        masks, tokens = head.decode(self.model.extract_feat(image, text), text)
        masks = head.predict_by_feat(masks, [dict(pad_shape=image.shape[2:])])
        if not isinstance(head, GeneralizedSAMHead):
            return (masks,)
        return masks, head.no_target_head(tokens[:, 0]).sigmoid().squeeze(1)


def export(model: OnnxModel, size: tuple[int, int], path: Path, optimize: bool = True) -> None:
    """Write the model for inputs of `size` (height, width) to `path`.

    Raises:
        InputError: torch is too old, or onnxscript is not installed.
    """
    if not hasattr(torch.compiler, 'is_exporting'):
        raise InputError(f'torch {torch.__version__} cannot export this model: take 2.7 or newer')
    if find_spec('onnxscript') is None:
        raise InputError('onnxscript is not installed, which writes the model: pip install "dit-sam[onnx]"')
    # Two of each, because the exporter would treat a size of one as a constant.
    ids, ones = torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)
    batch = torch.export.Dim('batch', min=1)
    length = torch.export.Dim('length', min=1, max=model.model.text_encoder.max_length)
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            (torch.zeros(2, 3, *size), ids, ones),
            dynamo=True,
            input_names=INPUTS,
            output_names=model.output_names,
            verbose=False,
            optimize=optimize,
            dynamic_shapes=({0: batch}, {0: batch, 1: length}, {0: batch, 1: length}),
        )
    program.save(str(path))


def settings_of(model: nn.Module, pipeline: list[dict], size: int | None = None) -> dict:
    """How to make inputs from images and sentences, and masks from logits, as plain values.

    Args:
        model: A `ReferringSegmentor`.
        pipeline: Config of the test pipeline.
        size: Replaces the sizes of the preprocessor and of the pipeline.

    Raises:
        InputError: `run_onnx.py` cannot prepare images in this way, or there is no size.
    """
    encoder, preprocessor = model.text_encoder, model.data_preprocessor
    resizes = [step for step in pipeline if str(step['type']).endswith('Resize')]
    if len(resizes) != 1 or not resizes[0].get('keep_ratio') or not isinstance(resizes[0].get('scale'), (tuple, list)):
        raise InputError('the test pipeline must have one Resize, with a scale of two numbers and keep_ratio=True')
    if {resizes[0].get('backend', 'cv2'), resizes[0].get('interpolation', 'bilinear')} != {'cv2', 'bilinear'}:
        raise InputError(
            'Resize must be bilinear and by OpenCV, as run_onnx.py resizes: leave its backend and interpolation out'
        )
    if preprocessor.place != 'middle':
        raise InputError("run_onnx.py centers images: set data_preprocessor.place='middle'")
    if size is None and preprocessor.size is None:
        raise InputError('the config has no data_preprocessor.size, and an exported model needs one: give --size')
    settings = dict(
        input_size=[size, size] if size else list(preprocessor.size),
        resize_to=[size, size] if size else list(resizes[0]['scale']),
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


def examples(size: tuple[int, int], max_length: int, vocabulary: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Inputs with 1 and 3 items and with 2, 7 and 20 tokens (or the model's maximum), with and without padding."""
    generator = torch.Generator().manual_seed(0)
    lengths = sorted({min(length, max_length) for length in (2, 7, 20)})
    for batch, length, padded in product((1, 3), lengths, (False, True)):
        mask = torch.ones(batch, length, dtype=torch.long)
        if padded:
            mask[0, length // 2 :] = 0
        yield (
            torch.randn(batch, 3, *size, generator=generator),
            torch.randint(vocabulary, (batch, length), generator=generator),
            mask,
        )


def largest_difference(model: OnnxModel, size: tuple[int, int], path: Path) -> float:
    """The largest difference of ONNX Runtime from PyTorch over all `examples`, as a share of the largest logit."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3
    session = InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    encoder, worst = model.model.text_encoder, 0.0
    for inputs in examples(size, encoder.max_length, len(encoder.tokenizer)):
        with torch.no_grad():
            expected = [output.numpy() for output in model(*inputs)]
        actual = session.run(None, {name: value.numpy() for name, value in zip(INPUTS, inputs)})
        for ours, theirs in zip(actual, expected):
            worst = max(worst, float(np.abs(ours - theirs).max() / max(1, np.abs(theirs).max())))
    return worst


def write(inferencer: ReferringInferencer, size: int | None, path: Path, check: bool) -> list[Path]:
    """Write temporary files, check the model if requested, and rename them to their targets; return their paths.

    Raises:
        InputError: The model cannot be exported, differs from PyTorch's, or the files cannot be written.
    """
    model, tokenizer = OnnxModel(inferencer.model), inferencer.model.text_encoder.tokenizer
    settings = settings_of(inferencer.model, inferencer.cfg.test_dataloader.dataset.pipeline, size)
    with wrap_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix='.', suffix='.part', dir=path.parent) as folder:
            temporary = Path(folder, path.name)
            export(model, settings['input_size'], temporary)
            temporary.with_suffix('.json').write_text(json.dumps(settings, indent=1), encoding='utf-8')
            tokenizer.backend_tokenizer.save(str(temporary.with_suffix('.tokenizer.json')))
            if check:
                check_against_pytorch(model, settings['input_size'], temporary)
            # Weights above 2 GB are in a separate file.
            names = sorted(os.listdir(folder))
            for name in names:
                os.replace(temporary.with_name(name), path.with_name(name))
    return [path.with_name(name) for name in names]


def check_against_pytorch(model: OnnxModel, size: tuple[int, int], path: Path) -> None:
    """Print the `largest_difference`, or raise `InputError` if it exceeds 1e-4."""
    difference = largest_difference(model, size, path)
    if difference > 1e-4:
        raise InputError(f'{path.name} differs from PyTorch by {difference:.1e} of the largest logit, and was not kept')
    print(f'checked: differs from PyTorch by {difference:.1e} of the largest logit', file=sys.__stdout__)


def main(args: argparse.Namespace) -> None:
    prepare_process()
    # Messages of mmengine and torch go to stderr, so that stdout has only the results.
    with one_line_errors(), redirect_stdout(sys.stderr):
        check_file(args.out)
        weights = None if args.checkpoint == 'none' else args.checkpoint
        cfg = load_config(args.config, cfg_options=args.cfg_options)
        inferencer = ReferringInferencer(cfg, weights, 'cpu', show_progress=False)
        files = write(inferencer, args.size, Path(args.out), args.check)
    print('\n'.join(['written:', *map(str, files)]))


if __name__ == '__main__':
    main(ARGS)
