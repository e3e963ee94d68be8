"""Count a model by part: ``tools/analysis_tools/count_parameters.py CONFIG [--size 512 512] [--tokens 20]``.

Prints parameters, trainable and frozen, and the GFLOPs of a forward pass for one image and one sentence, 2 FLOPs per
multiply-add. FLOPs are those of matrix products and convolutions, as ``torch.utils.flop_counter`` counts them. The
model is on the meta device: nothing is computed and no weight takes memory.
"""

import argparse
import inspect
import json
from collections.abc import Callable

from dit_sam_cli.arguments import add_config_options, positive


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Count parameters and FLOPs of a model by part')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--size',
        type=positive,
        nargs='+',
        metavar=('HEIGHT', 'WIDTH'),
        help="size of the network's input in pixels, one number for a square; default as in the config",
    )
    parser.add_argument('--tokens', type=positive, help="tokens of the sentence; default the text encoder's max_length")
    parser.add_argument('--json', metavar='FILE', help='also write the counts to this file, FLOPs instead of GFLOPs')
    add_config_options(parser)
    args = parser.parse_args()
    if args.size and len(args.size) > 2:
        parser.error('--size takes one number or two, HEIGHT WIDTH')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from prettytable import PrettyTable
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import prepare_process
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.structures import TextFeatures
from dit_sam.utils import atomic_write_text, check_file

Counts = dict[str, dict[str, int]]


def build(filename: str, cfg_options: dict | list[str] | None = None) -> tuple[nn.Module, tuple[int, int]]:
    """The segmentor of a config on the meta device, and the height and width of its input.

    Raises:
        FileNotFoundError: There is no such config.
        InputError: It has no model, the model cannot be built, or it is not a segmentor.
    """
    cfg = load_config(filename, cfg_options=cfg_options)
    if 'model' not in cfg:
        raise InputError(f'{filename} has no `model`; give a config of configs/dit_sam or another with a segmentor')
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    try:
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise InputError(f'the model of {filename} cannot be built: {" ".join(str(error).split())}') from error
    check_segmentor(model)
    size = (cfg.model.get('data_preprocessor') or {}).get('size') or (512, 512)
    return model.eval(), tuple(size)


def check_segmentor(model: nn.Module) -> None:
    """
    Raises:
        InputError: The model has no backbone or no decode_head.
    """
    if not hasattr(model, 'backbone') or not hasattr(model, 'decode_head'):
        raise InputError(
            f'the model is a {type(model).__name__}, not a segmentor with a backbone and a decode_head; give a config '
            'of configs/dit_sam or another with a segmentor'
        )


def count(model: nn.Module, size: tuple[int, int], tokens: int | None = None) -> Counts:
    """Parameters and FLOPs of each part.

    Args:
        model: A segmentor on the meta device: `ReferringSegmentor`, or one of mmseg's without text.
        size: Height and width of the image.
        tokens: Length of the sentence; None is the text encoder's `max_length`.

    Returns:
        Part -> `parameters`, `trainable`, `frozen`, `flops`. The FLOPs of the image encoder are those without text.
        Those of the instruction are all that the text adds, such as its keys and values in every block. Parts that run
        in training only, such as an auxiliary head, are under `other` and have no FLOPs.

    Raises:
        InputError: The sentence is longer than the text encoder takes.
    """
    image = torch.empty(1, 3, *size, device='meta')
    text, text_flops = run(text_features, model, 1, 'meta', tokens)
    _, plain = run(model.backbone, image)
    features, instructed = run(model.backbone, image, **taken_by(model.backbone, text))
    if model.with_neck:
        features, neck = run(model.neck, features)
        plain, instructed = plain + neck, instructed + neck
    _, decoded = run(model.decode_head, features, **taken_by(model.decode_head, text))

    instruction = getattr(model.backbone, 'instruction', None)
    inside = set() if instruction is None else set(instruction.parameters())
    parts = {
        'text encoder': (parameters_of(model, 'text_encoder'), text_flops),
        'image encoder': (parameters_of(model, 'backbone', 'neck') - inside, plain),
        'instruction': (inside, instructed - plain),
        'mask decoder': (parameters_of(model, 'decode_head'), decoded),
    }
    everything = set(model.parameters())
    parts['other'] = (everything.difference(*(parameters for parameters, _ in parts.values())), 0)
    parts['total'] = (everything, text_flops + instructed + decoded)
    return {name: summary(*part) for name, part in parts.items() if name != 'other' or part[0]}


def text_features(model: nn.Module, batch: int, device: str, tokens: int | None = None) -> TextFeatures | None:
    """Features of `batch` sentences of `tokens` real tokens; None without a text encoder.

    The default is `max_length`, or 20 for an encoder whose `max_length` is only the end of its position table.
    """
    encoder = getattr(model, 'text_encoder', None)
    if encoder is None:
        return None
    if tokens and tokens > encoder.max_length:
        raise InputError(f'--tokens {tokens}: the text encoder cuts sentences to max_length={encoder.max_length}')
    reads_images = 'images' in inspect.signature(encoder.forward).parameters
    length = tokens or (min(encoder.max_length, 20) if reads_images else encoder.max_length)
    ids = torch.zeros(batch, length, dtype=torch.long, device=device)
    if reads_images:
        side = encoder.beit3.img_size
        return encoder.encode_tokens(ids, torch.ones_like(ids), torch.zeros(batch, 3, side, side, device=device))
    return TextFeatures(encoder.model(input_ids=ids).last_hidden_state, torch.ones_like(ids, dtype=torch.bool))


def run(module: Callable, *args, **kwargs) -> tuple:
    """The output of a call, and its FLOPs."""
    with FlopCounterMode(display=False) as counter:
        output = module(*args, **kwargs)
    return output, counter.get_total_flops()


def taken_by(module: nn.Module, text: TextFeatures | None) -> dict[str, TextFeatures | None]:
    """The keyword argument with the text, for a module that takes text."""
    return dict(text=text) if 'text' in inspect.signature(module.forward).parameters else {}


def parameters_of(model: nn.Module, *names: str) -> set[Tensor]:
    return {parameter for name in names if hasattr(model, name) for parameter in getattr(model, name).parameters()}


def summary(parameters: set[Tensor], flops: int) -> dict[str, int]:
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in parameters]
    trainable = sum(number for number, trains in sizes if trains)
    total = sum(number for number, _ in sizes)
    return dict(parameters=total, trainable=trainable, frozen=total - trainable, flops=flops)


def table(counts: Counts) -> str:
    """The counts as a readable table: millions of parameters, GFLOPs."""
    lines = PrettyTable(['part', 'parameters (M)', 'trainable (M)', 'frozen (M)', 'GFLOPs'], align='r')
    lines.align['part'] = 'l'
    for name, numbers in counts.items():
        millions = [f'{numbers[key] / 1e6:.3f}' for key in ('parameters', 'trainable', 'frozen')]
        lines.add_row([name, *millions, f'{numbers["flops"] / 1e9:.2f}'], divider=name == list(counts)[-2])
    return lines.get_string()


def main(args: argparse.Namespace) -> None:
    prepare_process()
    with one_line_errors():
        if args.json:
            check_file(args.json)
        model, size = build(args.config, args.cfg_options)
        if args.size:
            size = (args.size[0], args.size[-1])
        counts = count(model, size, args.tokens)
        print(f'{args.config}: one image of {size[0]} x {size[1]} and one sentence; 2 FLOPs a multiply-add')
        print(table(counts))
        if args.json:
            atomic_write_text(args.json, json.dumps(dict(size=size, **counts), indent=2) + '\n')


if __name__ == '__main__':
    main(ARGS)
