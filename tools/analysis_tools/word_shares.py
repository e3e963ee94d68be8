"""Measure how distinct the words are in each block: ``tools/analysis_tools/word_shares.py CONFIG CHECKPOINT``.

Prints, for each block of the image encoder, the variance of the text tokens within a sentence divided by their variance
over all sentences, after the block's norm. 1 means that words differ as much within a sentence as between sentences and
images, 0 that all words of a sentence look alike, so that the block cannot tell them apart. Reads the test set.
"""

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from dit_sam_cli.arguments import add_config_options, let_threads_yield, positive


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint: .pth or .safetensors')
    parser.add_argument('--sentences', type=positive, default=512, help='sentences of the test set, from the first on')
    parser.add_argument('--device', help='as in torch: cpu, cuda:1, ...; default: a GPU where there is one')
    parser.add_argument('--json', type=Path, help='file to write the shares to, with null for blocks without text')
    add_config_options(parser)
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()
    let_threads_yield()

import json
from functools import partial

import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from dit_sam.apis import ReferringInferencer
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models import DITViT
from dit_sam.utils import atomic_write_text, check_file


def word_share(sentences: list[Tensor]) -> float:
    """The variance within sentences, as a share of the variance of all words; 0 if all words are alike.

    Args:
        sentences: The tokens of each sentence, (L, D), of two words or more in some sentence.
    """
    words = torch.cat(sentences).double()
    within = sum((tokens.double() - tokens.double().mean(0)).square().sum().item() for tokens in sentences)
    total = (words - words.mean(0)).square().sum().item()
    return within / (len(words) - len(sentences)) / (total / (len(words) - 1)) if total else 0.0


def word_shares(inferencer: ReferringInferencer, sentences: int) -> list[float | None]:
    """The share for each block of the image encoder; None for a block without text.

    Raises:
        InputError: The image encoder is not one of this project.
    """
    model = inferencer.model
    if not isinstance(model.backbone, DITViT):
        raise InputError(f'model.backbone is a {type(model.backbone).__name__}: only a DITViT has text tokens')
    blocks = model.backbone.blocks
    found: list[list[Tensor]] = [[] for _ in blocks]

    def note(layer: int, block: nn.Module, inputs: tuple) -> None:
        _, text, mask, *_ = *inputs, None, None
        if text is not None:
            found[layer] += [words[kept].cpu() for words, kept in zip(block.norm1(text).float(), mask)]

    handles = [block.register_forward_pre_hook(partial(note, layer)) for layer, block in enumerate(blocks)]
    seen = 0
    with torch.no_grad():
        for batch in Runner.build_dataloader(inferencer.cfg.test_dataloader):
            model.test_step(batch)
            seen += len(batch['inputs'])
            if seen >= sentences:
                break
    for handle in handles:
        handle.remove()
    return [word_share(texts[:sentences]) if texts else None for texts in found]


def main(args: argparse.Namespace) -> None:
    # mmengine's messages go to stderr, so that stdout has only the results.
    with one_line_errors(), redirect_stdout(sys.stderr):
        if args.json is not None:
            check_file(args.json)
        cfg = load_config(args.config, cfg_options=args.cfg_options)
        shares = word_shares(ReferringInferencer(cfg, args.checkpoint, args.device), args.sentences)
        if args.json is not None:
            atomic_write_text(args.json, json.dumps(shares) + '\n')
    for layer, share in enumerate(shares):
        print(f'block {layer}: ' + ('no text' if share is None else f'{share:.2f}'))


if __name__ == '__main__':
    main(ARGS)
