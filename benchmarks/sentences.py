"""What several sentences of one image cost, by where the text enters: `benchmarks/sentences.py --arch base`.

The whole model predicts the masks of 1, 8, ... sentences of one image, from the resized image to masks of 640 x 480
pixels, in one batch. In every round each model and number runs once; the medians count. Beside the times are the
FLOPs of the products, and the ratio to L-DIT with text from block 0. Weights are random.
"""

import argparse
from pathlib import Path
from statistics import median

from choices import ARCHS, CONFIG_OF

from dit_sam_cli.arguments import positive

# In place of the files of a tokenizer.
WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', *(f'word{i}' for i in range(70))]
ORIGINAL = (480, 640)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', choices=ARCHS, default='base', help='size of the encoder')
    parser.add_argument('--size', type=positive, default=512, help='side of the input in pixels, a multiple of 16')
    parser.add_argument('--sentences', nargs='+', type=positive, default=[1, 8, 32], help='sentences of the image')
    parser.add_argument('--tokens', type=positive, default=20, help='tokens of a sentence')
    parser.add_argument(
        '--evf', action='store_true', help='EVF-SAM in place of DIT, at its 1024 pixels; only --arch base'
    )
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N')
    parser.add_argument('--rounds', type=positive, default=3, help='rounds, not counting a warm-up round')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import torch
from measures import seconds, write_json
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.registry import config_folder


def configs(args: argparse.Namespace) -> dict[str, Config]:
    """The models by their names; the first one is what the others are compared with."""
    if args.evf:
        cfg = Config.fromfile(config_folder() / 'evf_sam' / 'evf_vit-b_beit3-b.py')
        cfg.model.text_encoder.tokenizer = WORDS
        return {'EVF-SAM': cfg}
    found = {}
    cfg = Config.fromfile(config_folder() / 'dit_sam' / CONFIG_OF[args.arch])
    cfg.model.data_preprocessor.size = (args.size, args.size)
    cfg.model.text_encoder.tokenizer = WORDS
    depth = dict(tiny=6, base=12, large=24, huge=32)[args.arch]
    for share, start in (('0', 0), ('1/3', depth // 3), ('1/2', depth // 2), ('2/3', 2 * depth // 3)):
        late = Config(cfg.to_dict())
        late.model.backbone.instruction.start = start
        found[f'L-DIT from block {start} ({share})'] = late
    cfg.model.backbone.instruction = None
    return found | {'default': cfg}


def build(cfg: Config, device: str) -> nn.Module:
    """A model with random weights."""
    torch.manual_seed(0)
    for part in (cfg.model.text_encoder, cfg.model.backbone, cfg.model.decode_head):
        part.init_cfg = None
    return MODELS.build(cfg.model).to(device).requires_grad_(False).eval()


def batch(cfg: Config, sentences: int, tokens: int) -> dict:
    """Sentences of one image, as the data loader collates them."""
    height, width = cfg.model.data_preprocessor.size
    image = torch.randint(256, (3, height * 3 // 4, width), dtype=torch.uint8)
    samples = []
    for i in range(sentences):
        words = ' '.join(f'word{(i + j) % 70}' for j in range(tokens - 2))
        size = image.shape[1:]
        sample = SegDataSample(metainfo=dict(text=words, img_shape=size, ori_shape=ORIGINAL, img_path='image'))
        side = cfg.model.text_encoder.get('img_size')
        if side:
            sample.text_encoder_image = PixelData(data=torch.rand(3, side, side))
        samples.append(sample)
    return dict(inputs=[image] * sentences, data_samples=samples)


def measure(args: argparse.Namespace) -> dict[str, dict]:
    """Seconds and GFLOPs by model and number of sentences."""
    models = {name: (cfg, build(cfg, args.device)) for name, cfg in configs(args).items()}
    figures: dict[str, dict] = {name: {} for name in models}
    with torch.no_grad():
        for number in args.sentences:
            times: dict[str, list[float]] = {name: [] for name in models}
            for i in range(args.rounds + 1):
                for name, (cfg, model) in models.items():
                    data = batch(cfg, number, args.tokens)
                    # Sentences that are cached would cost nothing.
                    model.train().eval()
                    elapsed = seconds(lambda model=model, data=data: model.test_step(data), args.device)
                    times[name] += [elapsed] * bool(i)
            for name, (cfg, model) in models.items():
                with FlopCounterMode(display=False) as counter:
                    model.train().eval().test_step(batch(cfg, number, args.tokens))
                found = dict(seconds=median(times[name]), gflops=counter.get_total_flops() / 1e9)
                figures[name][number] = found
    return figures


def table(figures: dict[str, dict], sentences: list[int]) -> str:
    """The figures in Markdown."""
    first = next(iter(figures.values()))
    lines = ['| Model | ' + ' | '.join(f'{n} sentences: s | GFLOPs | ratio' for n in sentences) + ' |']
    lines.append('|---' * (3 * len(sentences) + 1) + '|')
    for name, found in figures.items():
        # Of one model alone: how much more than its first number of sentences.
        base = first if len(figures) > 1 else dict.fromkeys(sentences, first[sentences[0]])
        cells = [
            f'{found[n]["seconds"]:.2f} | {found[n]["gflops"]:,.0f} | {found[n]["seconds"] / base[n]["seconds"]:.2f}'
            for n in sentences
        ]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main(args: argparse.Namespace) -> None:
    with one_line_errors():
        init_default_scope('mmseg')
        figures = measure(args)
        print(table(figures, args.sentences))
    write_json(args.json, figures)


if __name__ == '__main__':
    main(ARGS)
