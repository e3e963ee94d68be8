"""What several sentences of one image cost, by where the text enters: `benchmarks/sentences.py [--train]`.

The whole model predicts the masks of 1, 8, ... sentences of one image, from the resized image to masks of 640 x 480
pixels, in one batch. In every round each model and number runs once; the medians count. Beside the times are the
FLOPs of the products, and the ratio to L-DIT with text from block 0. Weights are random.

With `--train` these are training steps of `--batch` sentences, of which 1, 2, ... share an image as with
`sentences_per_image`: from the resized images on the host to the updated weights, by the config's losses and
optimizer. Beside the times are the ratio to one sentence an image with text from block 0, and the memory of tensors
that a step makes, gradients included, without weights and the optimizer's state. The last row is the time in which one
process loads such a batch, from JPEG files of 640 x 480 pixels, through the config's pipeline. It is no part of the
steps: loading processes work beside them.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

from choices import ARCHS, BATCH, CONFIG_OF

from dit_sam_cli.arguments import positive

# In place of the files of a tokenizer.
WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', *(f'word{i}' for i in range(70))]
ORIGINAL = (480, 640)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', choices=ARCHS, default='base', help='size of the encoder')
    parser.add_argument('--size', type=positive, default=512, help='side of the input in pixels, a multiple of 16')
    parser.add_argument('--patch-size', type=positive, help='side of a patch in pixels; default 16, with --arch tiny 8')
    parser.add_argument(
        '--sentences', nargs='+', type=positive, help='sentences of an image; default 1 8 32, with --train 1 2 4'
    )
    parser.add_argument('--train', action='store_true', help='measure training steps')
    parser.add_argument('--batch', type=positive, default=BATCH, help='with --train, the sentences of a step')
    parser.add_argument('--amp', action='store_true', help='with --train, as tools/train.py --amp')
    parser.add_argument('--tokens', type=positive, default=20, help='tokens of a sentence')
    parser.add_argument(
        '--evf', action='store_true', help='EVF-SAM in place of DIT, at its 1024 pixels; only --arch base'
    )
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N')
    parser.add_argument('--rounds', type=positive, default=3, help='rounds, not counting a warm-up round')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    args = parser.parse_args()
    args.sentences = args.sentences or ([1, 2, 4] if args.train else [1, 8, 32])
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import torch
from data_loading import write_photographs, write_set
from measures import check_device, flops, machine, peak_memory, seconds, write_json
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmengine.utils.dl_utils import set_multi_processing
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from dit_sam.datasets import RefCOCODataset, flatten_collate
from dit_sam.engine.launch import enable_amp
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.registry import config_folder
from dit_sam.utils import check_file

LOADING = 'loading, one process'


def check(args: argparse.Namespace) -> None:
    """Refuse settings that cannot run.

    Raises:
        InputError: The device does not exist, a number does not divide another, an option belongs to `--train`, or the
            file for the figures cannot be written.
    """
    check_device(args.device)
    if args.size % 16:
        raise InputError(f'--size {args.size} is not a multiple of 16')
    if args.patch_size and args.size % args.patch_size:
        raise InputError(f'--size {args.size} is not a multiple of --patch-size {args.patch_size}')
    if args.patch_size and args.evf:
        raise InputError('--patch-size does not go with --evf')
    uneven = [number for number in args.sentences if args.batch % number]
    if args.train and uneven:
        raise InputError(f'--batch {args.batch} is not a multiple of {uneven[0]} sentences an image')
    if args.amp and not args.train:
        raise InputError('--amp is an option of --train')
    if args.json:
        check_file(args.json)


def configs(args: argparse.Namespace) -> dict[str, Config]:
    """The models by their names; the first one is what the others are compared with."""
    if args.evf:
        cfg = Config.fromfile(config_folder() / 'evf_sam' / 'evf_vit-b_beit3-b.py')
        cfg.model.text_encoder.tokenizer = WORDS
        return {'EVF-SAM': cfg}
    found = {}
    cfg = Config.fromfile(config_folder() / 'dit_sam' / CONFIG_OF[args.arch])
    cfg.model.data_preprocessor.size = (args.size, args.size)
    if args.patch_size:
        cfg.model.backbone.patch_size = args.patch_size
    cfg.model.text_encoder.tokenizer = WORDS
    depth = dict(tiny=6, base=12, large=24, huge=32)[args.arch]
    starts = {'0': 0, '1/3': depth // 3, '1/2': depth // 2, '2/3': 2 * depth // 3}
    for share in ('0', '2/3') if args.train else starts:
        start = starts[share]
        late = Config(cfg.to_dict())
        late.model.backbone.instruction.start = start
        found[f'L-DIT from block {start} ({share})'] = late
    if args.train:
        return found
    cfg.model.backbone.instruction = None
    return found | {'default': cfg}


def build(cfg: Config) -> nn.Module:
    """A model with random weights."""
    torch.manual_seed(0)
    for part in (cfg.model.text_encoder, cfg.model.backbone, cfg.model.decode_head):
        part.init_cfg = None
    return MODELS.build(cfg.model)


def batch(cfg: Config, sentences: int, tokens: int, of_image: int) -> dict:
    """Sentences, `of_image` of each image, as `flatten_collate` collates them."""
    height, width = cfg.model.data_preprocessor.size
    images = torch.randint(256, (sentences // of_image, 3, height * 3 // 4, width), dtype=torch.uint8)
    samples = []
    for i in range(sentences):
        words = ' '.join(f'word{(i + j) % 70}' for j in range(tokens - 2))
        size = images.shape[2:]
        sample = SegDataSample(metainfo=dict(text=words, img_shape=size, ori_shape=ORIGINAL, img_path='image'))
        sample.set_metainfo(dict(shares_image=i % of_image > 0))
        sample.gt_sem_seg = PixelData(data=torch.randint(2, (1, *size), dtype=torch.uint8))
        side = cfg.model.text_encoder.get('img_size')
        if side:
            sample.text_encoder_image = PixelData(data=torch.rand(3, side, side))
        samples.append(sample)
    return dict(inputs=[image for image in images for _ in range(of_image)], data_samples=samples)


@torch.no_grad()
def measure(args: argparse.Namespace) -> dict[str, dict]:
    """Seconds and GFLOPs by model and number of sentences."""
    models = {
        name: (cfg, build(cfg).to(args.device).requires_grad_(False).eval()) for name, cfg in configs(args).items()
    }
    figures: dict[str, dict] = {name: {} for name in models}
    for number in args.sentences:
        times: dict[str, list[float]] = {name: [] for name in models}
        for i, name in product(range(args.rounds + 1), models):
            cfg, model = models[name]
            data = batch(cfg, number, args.tokens, number)
            # Sentences that are cached would cost nothing.
            model.train().eval()
            elapsed = seconds(lambda model=model, data=data: model.test_step(data), args.device)
            times[name] += [elapsed] * bool(i)
        for name, (cfg, _) in models.items():
            counted = flops(partial(predict_once, cfg, number, args.tokens))
            figures[name][number] = dict(seconds=median(times[name]), gflops=counted / 1e9)
    return figures


@torch.enable_grad()  # the cache of sentences, which is not used with gradients, reads values of the weights
def predict_once(cfg: Config, number: int, tokens: int) -> None:
    """Build a model and predict, for a count of FLOPs."""
    build(cfg).eval().test_step(batch(cfg, number, tokens, number))


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


def measure_training(args: argparse.Namespace) -> dict[str, dict]:
    """Seconds and MB of a training step by model and sentences of an image, and seconds of loading its batch."""
    weights: dict[str, nn.Parameter] = {}
    steps, figures = {}, {}
    for name, cfg in configs(args).items():
        if args.amp:
            enable_amp(cfg)
        model = build(cfg).to(args.device).train()
        if weights:
            # All models share weights and the optimizer's state, which leaves out weights without a gradient.
            mine = dict(model.named_parameters())
            model.load_state_dict({key: weights[key] for key in mine}, strict=False, assign=True)
        else:
            weights = dict(model.named_parameters())
            wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
            # As with LossLogHook, which reads the norm when it is logged.
            wrapper.writes_norm = False
        figures[name] = {}
        for number in args.sentences:
            data = batch(cfg, args.batch, args.tokens, number)
            steps[name, number] = partial(train_step, model, wrapper, data)
    with tempfile.TemporaryDirectory() as folder:
        loads = loaders(cfg, Path(folder), args)
        steps |= {(LOADING, number): load for number, load in loads.items()}
        times: dict[tuple[str, int], list[float]] = {key: [] for key in steps}
        for i in range(args.rounds + 1):
            for key, step in steps.items():
                times[key] += [seconds(step, args.device)] * bool(i)
    figures[LOADING] = {}
    for (name, number), step in steps.items():
        figures[name][number] = dict(seconds=median(times[name, number]))
        if name != LOADING:
            figures[name][number]['memory_mb'] = peak_memory(step, args.device)
    return figures


def train_step(model: nn.Module, wrapper: OptimWrapper, data: dict) -> None:
    # The data preprocessor pads the masks in the data samples.
    model.train_step(dict(data, data_samples=[sample.clone() for sample in data['data_samples']]), wrapper)


def loaders(cfg: Config, folder: Path, args: argparse.Namespace) -> dict[int, Callable[[], dict]]:
    """By sentences of an image, a function that loads a batch."""
    # As a training; otherwise OpenCV has several threads.
    set_multi_processing(**cfg.env_cfg.mp_cfg)
    most = max(args.sentences)
    write_set(folder / 'refcoco', args.batch, args.batch * most, args.batch * most)
    write_photographs(folder / 'images', args.batch)
    found = {}
    for number in args.sentences:
        dataset = RefCOCODataset(
            str(folder), data_prefix=dict(img_path='images/'), pipeline=cfg.train_pipeline, sentences_per_image=number
        )
        found[number] = partial(load, dataset, args.batch // number)
    return found


def load(dataset: RefCOCODataset, images: int) -> dict:
    return flatten_collate([dataset[i] for i in range(images)])


def training_table(figures: dict[str, dict], sentences: list[int]) -> str:
    """The figures of training steps in Markdown."""
    base = next(iter(figures.values()))[sentences[0]]['seconds']
    lines = ['| Model | ' + ' | '.join(f'{n} of an image: s | ratio | MB' for n in sentences) + ' |']
    lines.append('|---' * (3 * len(sentences) + 1) + '|')
    for name, found in figures.items():
        cells = []
        for number in sentences:
            each = found[number]
            memory = f'{each["memory_mb"]:,.0f}' if 'memory_mb' in each else '–'
            cells.append(f'{each["seconds"]:.3f} | {each["seconds"] / base:.2f} | {memory}')
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main(args: argparse.Namespace) -> None:
    with one_line_errors(torch.cuda.OutOfMemoryError):
        check(args)
        init_default_scope('mmseg')
        if args.train:
            figures = measure_training(args)
            print(f'{args.batch} sentences a step, {machine(args.device)}')
            print(training_table(figures, args.sentences))
        else:
            figures = measure(args)
            print(table(figures, args.sentences))
    write_json(args.json, figures)


if __name__ == '__main__':
    main(ARGS)
