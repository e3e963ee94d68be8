"""Export a model to ONNX: ``tools/deployment/export_onnx.py CONFIG CHECKPOINT --out model.onnx [--split] [--check]``.

Writes the model, ``model.tokenizer.json``, and ``model.json``, which says how to prepare images and sentences and how
to read masks. ``run_onnx.py`` shows how to use the three without torch and OpenMMLab.

Inputs: ``image``, float32 (batch, 3, H, W), normalized and padded; ``input_ids`` and ``attention_mask``, int64 (batch,
length). Outputs: ``mask_logits``, float32 (batch, 1, H, W), and, if the head predicts it, ``no_target``, the
probability that the sentence has no target, (batch,). Batch and length are free; height and width are fixed.

With ``--split`` what does not depend on the sentences is a graph of its own, ``model.image.onnx``: from one ``image``,
(1, 3, H, W), to ``trunk_0``, ``trunk_1``, ... These take the place of ``image`` in ``model.onnx``, for any number of
sentences about the image.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias
from uuid import uuid4

from dit_sam_cli.arguments import add_config_options, let_threads_yield

IMAGE_SUFFIX = '.image.onnx'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint: .pth or .safetensors; "none" leaves the weights random')
    parser.add_argument('--out', default='model.onnx', help='file to write; it and those beside it are replaced')
    parser.add_argument('--size', type=int, help="side of the model's square input; default: as in the config")
    parser.add_argument(
        '--split', action='store_true', help='two graphs: what does not depend on the sentences runs once for an image'
    )
    parser.add_argument('--check', action='store_true', help='compare ONNX Runtime with PyTorch, and fail above 1e-4')
    add_config_options(parser)
    args = parser.parse_args()
    if not args.out.endswith('.onnx'):
        parser.error(f'--out {args.out}: the file to write must end in .onnx')
    if args.out.endswith(IMAGE_SUFFIX):
        parser.error(f'--out {args.out}: {IMAGE_SUFFIX} is the ending of the first graph of --split; name another file')
    if args.size is not None and args.size < 1:
        parser.error(f'--size is 1 or more, got {args.size}')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()
    let_threads_yield()

import numpy as np
import torch
from onnx_settings import check_settings_file, settings_of, write_settings
from torch import Tensor, nn

from dit_sam.apis import ReferringInferencer
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import prepare_process
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models.data_preprocessor import ReferringDataPreProcessor
from dit_sam.models.decode_heads import GeneralizedSAMHead, SAMHead
from dit_sam.models.text_encoders import HuggingFaceTextEncoder
from dit_sam.structures import TextFeatures
from dit_sam.utils import check_file, wrap_write_errors

INPUTS = ('image', 'input_ids', 'attention_mask')
Nested: TypeAlias = 'Tensor | Sequence[Nested]'


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
        text = self.model.text_encoder.encode_tokens(input_ids, attention_mask)
        return self.decode(self.model.extract_feat(image, text), text, image.shape[2:])

    def decode(self, features: tuple[Tensor, ...], text: TextFeatures, size: Sequence[int]) -> tuple[Tensor, ...]:
        """The outputs, with masks of `size`, from feature maps and text."""
        head = self.model.decode_head
        masks, tokens = head.decode(features, text)
        masks = head.predict_by_feat(masks, [dict(pad_shape=size)])
        if not isinstance(head, GeneralizedSAMHead):
            return (masks,)
        return masks, head.no_target_head(tokens[:, 0]).sigmoid().squeeze(1)


class ImageGraph(OnnxModel):
    """The part of a `ReferringSegmentor` that does not depend on the sentences: from an image to the trunk."""

    def forward(self, image: Tensor) -> Nested:
        return self.model.trunk(image)


class SentenceGraph(OnnxModel):
    """The rest of a `ReferringSegmentor`: from the trunk of one image and the tokens of S sentences to mask logits.

    Args:
        model: As in `OnnxModel`.
        size: Height and width of the image.
        structure: A trunk. The graph gets its tensors in a flat list, because the exporter takes no nested tuples.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int], structure: Nested) -> None:
        super().__init__(model)
        self.size, self.structure = size, structure

    def forward(self, tensors: list[Tensor], input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        trunk = nested(iter(tensors), self.structure)
        text = self.model.text_encoder.encode_tokens(input_ids, attention_mask)
        # Only the number of images is read from `inputs`.
        inputs, image_index = torch.zeros(1, 3, *self.size), torch.zeros_like(input_ids[:, 0])
        return self.decode(self.model.extract_feat(inputs, text, image_index, trunk), text, self.size)


def export(model: OnnxModel, size: tuple[int, int], path: Path, optimize: bool = True) -> dict:
    """Write the model for inputs of `size` (height, width) to `path`.

    Returns:
        Settings: `export`, which the file has in its metadata, so that files of different exports are not taken for one
        model.

    Raises:
        InputError: torch is too old, or onnxscript is not installed.
    """
    batch, length = torch.export.Dim('batch', min=1), length_of(model)
    settings = dict(export=uuid4().hex)
    save(
        path,
        model,
        (torch.zeros(2, 3, *size), *example_tokens()),
        settings['export'],
        input_names=INPUTS,
        output_names=model.output_names,
        optimize=optimize,
        dynamic_shapes=({0: batch}, {0: batch, 1: length}, {0: batch, 1: length}),
    )
    return settings


def export_split(model: OnnxModel, size: tuple[int, int], path: Path, optimize: bool = True) -> dict:
    """Write two graphs, the first one beside `path` with the ending `IMAGE_SUFFIX`.

    Returns:
        Settings: `trunk`, the names of what the first graph gives to the second; and `export`, as in the other form.

    Raises:
        InputError: As in `export`, or everything depends on the sentences.
    """
    image = torch.zeros(1, 3, *size)
    with torch.no_grad():
        trunk = model.model.trunk(image)
    if trunk is None:
        raise InputError(
            f'{type(model.model.backbone).__name__} takes text and has no `trunk`, which the first of two graphs '
            'computes: leave out --split'
        )
    tensors = flat(trunk)
    settings = dict(trunk=[f'trunk_{i}' for i in range(len(tensors))], export=uuid4().hex)
    save(
        path.with_suffix(IMAGE_SUFFIX),
        ImageGraph(model.model),
        (image,),
        settings['export'],
        input_names=INPUTS[:1],
        output_names=settings['trunk'],
        optimize=optimize,
    )
    sentences, length = torch.export.Dim('sentences', min=1), length_of(model)
    save(
        path,
        SentenceGraph(model.model, size, trunk),
        (tensors, *example_tokens()),
        settings['export'],
        input_names=[*settings['trunk'], *INPUTS[1:]],
        output_names=model.output_names,
        optimize=optimize,
        # The exporter would take a list of None for the dimensions of one tensor.
        dynamic_shapes=([{}] * len(tensors), {0: sentences, 1: length}, {0: sentences, 1: length}),
    )
    return settings


def flat(trunk: Nested) -> list[Tensor]:
    """The tensors of a trunk."""
    return [trunk] if isinstance(trunk, Tensor) else [tensor for part in trunk for tensor in flat(part)]


def nested(tensors: Iterator[Tensor], structure: Nested) -> Nested:
    """The reverse of `flat`: the tensors in the structure of a trunk."""
    return next(tensors) if isinstance(structure, Tensor) else tuple(nested(tensors, part) for part in structure)


def example_tokens() -> tuple[Tensor, Tensor]:
    """Token ids and mask of two sentences, because the exporter would treat a size of one as a constant."""
    return torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)


def length_of(model: OnnxModel) -> torch.export.Dim:
    """The length of sentences as a dynamic dimension."""
    return torch.export.Dim('length', min=1, max=model.model.text_encoder.max_length)


def save(path: Path, model: nn.Module, inputs: tuple, export_name: str, **options: Any) -> None:
    """Write one graph; `options` are those of `torch.onnx.export`."""
    if not hasattr(torch.compiler, 'is_exporting'):
        raise InputError(f'torch {torch.__version__} cannot export this model: take 2.7 or newer')
    if find_spec('onnxscript') is None:
        raise InputError('onnxscript is not installed, which writes the model: pip install "dit-sam[onnx]"')
    with torch.no_grad():
        program = torch.onnx.export(model, inputs, dynamo=True, verbose=False, **options)
    program.model.metadata_props['export'] = export_name
    program.save(str(path))


def examples(
    size: tuple[int, int], max_length: int, vocabulary: int, one_image: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Inputs with 1 and 3 items and with 2, 7 and 20 tokens (or the model's maximum), with and without padding.

    With `one_image` there are 1, 3 and 5 sentences about an image (1, 3, H, W).
    """
    generator = torch.Generator().manual_seed(0)
    lengths = sorted({min(length, max_length) for length in (2, 7, 20)})
    for batch, length, padded in product((1, 3, 5) if one_image else (1, 3), lengths, (False, True)):
        mask = torch.ones(batch, length, dtype=torch.long)
        if padded:
            mask[0, length // 2 :] = 0
        yield (
            torch.randn(1 if one_image else batch, 3, *size, generator=generator),
            torch.randint(vocabulary, (batch, length), generator=generator),
            mask,
        )


def largest_difference(model: OnnxModel, size: tuple[int, int], path: Path, trunk: Sequence[str] = ()) -> float:
    """The largest difference of ONNX Runtime from PyTorch over all `examples`, as a share of the largest logit.

    Args:
        model: The whole model.
        size: Height and width of the image.
        path: The file of the graph.
        trunk: The names from `export_split`, to run two graphs.
    """
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3
    # The one that makes the outputs is the last one.
    files = [path.with_suffix(IMAGE_SUFFIX), path] if trunk else [path]
    *first, last = (InferenceSession(str(file), options, providers=['CPUExecutionProvider']) for file in files)
    encoder, worst = model.model.text_encoder, 0.0
    for image, *words in examples(size, encoder.max_length, len(encoder.tokenizer), bool(trunk)):
        with torch.no_grad():
            expected = [output.numpy() for output in model(image.expand(len(words[0]), -1, -1, -1), *words)]
        inputs = {name: value.numpy() for name, value in zip(INPUTS, (image, *words))}
        for session in first:
            inputs |= zip(trunk, session.run(trunk, dict(image=inputs.pop('image'))))
        for ours, theirs in zip(last.run(None, inputs), expected):
            worst = max(worst, float(np.abs(ours - theirs).max() / max(1, np.abs(theirs).max())))
    return worst


def write(
    inferencer: ReferringInferencer, size: int | None, path: Path, check: bool, split: bool = False
) -> list[Path]:
    """Write temporary files, check the model if requested, and rename them to their targets; return their paths.

    Files of an earlier export to `path` that this one does not replace are removed.

    Raises:
        InputError: The model cannot be exported, differs from PyTorch's, or the files cannot be written.
    """
    model, tokenizer = OnnxModel(inferencer.model), inferencer.model.text_encoder.tokenizer
    settings = settings_of(inferencer.model, inferencer.cfg.test_dataloader.dataset.pipeline, size)
    with wrap_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix='.', suffix='.part', dir=path.parent) as folder:
            temporary = Path(folder, path.name)
            settings |= (export_split if split else export)(model, settings['input_size'], temporary)
            write_settings(settings, tokenizer, temporary)
            if check:
                check_against_pytorch(model, settings['input_size'], temporary, settings.get('trunk', ()))
            names = sorted(os.listdir(folder))
            for name in names:
                os.replace(temporary.with_name(name), path.with_name(name))
        image = path.with_suffix(IMAGE_SUFFIX)
        # Weights above 2 GB are in a separate file.
        for name in {image.name, f'{image.name}.data', f'{path.name}.data'}.difference(names):
            path.with_name(name).unlink(missing_ok=True)
    return [path.with_name(name) for name in names]


def check_against_pytorch(model: OnnxModel, size: tuple[int, int], path: Path, trunk: Sequence[str]) -> None:
    """Print the `largest_difference`, or raise `InputError` if it exceeds 1e-4."""
    difference = largest_difference(model, size, path, trunk)
    if difference > 1e-4:
        raise InputError(f'{path.name} differs from PyTorch by {difference:.1e} of the largest logit, and was not kept')
    print(f'checked: differs from PyTorch by {difference:.1e} of the largest logit', file=sys.__stdout__)


def main(args: argparse.Namespace) -> None:
    prepare_process()
    # Messages of mmengine and torch go to stderr, so that stdout has only the results.
    with one_line_errors(), redirect_stdout(sys.stderr):
        check_file(args.out)
        check_settings_file(Path(args.out).with_suffix('.json'))
        weights = None if args.checkpoint == 'none' else args.checkpoint
        cfg = load_config(args.config, cfg_options=args.cfg_options)
        inferencer = ReferringInferencer(cfg, weights, 'cpu', show_progress=False)
        files = write(inferencer, args.size, Path(args.out), args.check, args.split)
    print('\n'.join(['written:', *map(str, files)]))


if __name__ == '__main__':
    main(ARGS)
