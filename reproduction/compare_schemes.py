"""The paper's comparison of schemes in miniature, on generated data: every scheme starts from the same weights.

Usage:
    python reproduction/compare_schemes.py --work-dir work_dirs/compare_schemes [--jobs 2] [--rows L-DIT]
    python reproduction/compare_schemes.py --work-dir work_dirs/compare_schemes --table

Writes data, pre-trains a small SAM without text on points and boxes and a small BERT without pictures on masked words,
then trains and scores every row and seed with tools/train.py and tools/test.py. A second run skips finished rows and
continues interrupted ones.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import mean, median

INSTRUCTION = 'model.backbone.instruction'
CONFIG = 'configs/dit_sam/ldit_vit-t_pretrained_shapes.py'


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        settings: Settings on top of the config.
        paper: The paper's oIoU and mIoU on RefCOCO val (ViT-B), if it has the row.
        config: The config.
        epochs: Epochs for each epoch of `--epochs`, so that all rows train on equally many sentences.
    """

    settings: tuple[str, ...] = ()
    paper: tuple[float, float] | None = None
    config: str = CONFIG
    epochs: Fraction = Fraction(1)


def with_frozen_encoder(row: Row, paper: tuple[float, float]) -> Row:
    """A row with the image encoder frozen, and what the paper says of it."""
    return replace(row, settings=(*row.settings, 'model.backbone.frozen=True'), paper=paper)


def by_image(sentences: int, *settings: str) -> Row:
    """A row that trains on images with up to `sentences` sentences each, 32 sentences in a batch.

    Six thousand images have 17,952 references, and nearly all have four sentences or more: an epoch of images has
    6,000 x `sentences` sentences in place of about 18,000.
    """
    loader = (
        f'train_dataloader.batch_size={32 // sentences}',
        f'train_dataloader.dataset.sentences_per_image={sentences}',
        'train_dataloader.collate_fn.type=flatten_collate',
    )
    return Row((*settings, *loader), epochs=Fraction(3, sentences))


SCHEMES = {
    'default': Row((f'{INSTRUCTION}=None',), (60.74, 63.41)),
    'default, +2 layers': Row((f'{INSTRUCTION}=None', 'model.decode_head.depth=4'), (67.17, 70.51)),
    'default, +4 layers': Row((f'{INSTRUCTION}=None', 'model.decode_head.depth=6'), (65.34, 69.51)),
    'E-DIT': Row((f'{INSTRUCTION}.type=EndToEndInstruction',), (68.07, 71.46)),
    'L-DIT': Row((), (71.98, 74.73)),
    'E-DIT, static': Row((f'{INSTRUCTION}.type=EndToEndStaticInstruction',), (68.53, 72.11)),
    'L-DIT, static': Row((f'{INSTRUCTION}.type=LayerWiseStaticInstruction',), (67.31, 70.84)),
    'L-DIT, CrossAtt': Row((f'{INSTRUCTION}.type=CrossAttentionInstruction',), (67.06, 70.33)),
    'L-DIT, CrossAtt+FFN': Row(
        (f'{INSTRUCTION}.type=CrossAttentionInstruction', f'{INSTRUCTION}.ffn=True'), (68.26, 71.42)
    ),
}
# The paper's numbers with a frozen image encoder.
FROZEN = {
    'default': (55.67, 57.98),
    'default, +2 layers': (59.88, 62.88),
    'default, +4 layers': (59.46, 62.54),
    'E-DIT': (62.96, 66.87),
    'L-DIT': (67.50, 69.97),
}
# Not in the paper: text from a later of the 6 blocks on, and several sentences of an image in a step.
LATE = {f'L-DIT from block {start}': Row((f'{INSTRUCTION}.start={start}',)) for start in (2, 3, 4)}
LATE_BY_IMAGE = 'L-DIT from block 4, 4 sentences of an image'
BY_IMAGE = {f'L-DIT, {sentences} sentences of an image': by_image(sentences) for sentences in (2, 4)} | {
    f'L-DIT from block 4, {sentences} sentences of an image': by_image(sentences, f'{INSTRUCTION}.start=4')
    for sentences in (2, 4)
}
# A step of the last one takes 0.55 of the time of one of L-DIT (benchmarks/sentences.py --train): 6 / 0.55 = 11 epochs.
BY_IMAGE[f'{LATE_BY_IMAGE}, equal time'] = replace(BY_IMAGE[LATE_BY_IMAGE], epochs=Fraction(11, 8))
# Not in the paper: a small BEiT-3, which reads the image too and starts from random weights. Its configs lack SAM's
# patches and weights.
WITH_SAM = (
    'model.backbone.patch_size=16',
    'model.backbone.init_cfg.type=Pretrained',
    'model.decode_head.init_cfg.type=Pretrained',
)
BEIT3 = {
    'EVF-SAM': Row(WITH_SAM, config='configs/evf_sam/evf_vit-t_shapes.py'),
    'L-DIT, BEiT-3': Row(WITH_SAM, config='configs/evf_sam/ldit_evf_vit-t_shapes.py'),
}
ROWS = (
    SCHEMES
    | {f'{name}, frozen encoder': with_frozen_encoder(SCHEMES[name], paper) for name, paper in FROZEN.items()}
    | LATE
    | BY_IMAGE
    | BEIT3
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/compare_schemes'), help='folder for data, weights and scores'
    )
    parser.add_argument('--rows', nargs='+', choices=ROWS, metavar='ROW', default=list(ROWS), help='rows to run')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1], help='seeds of the main rows')
    parser.add_argument('--images', type=int, default=6000, help='pictures to train on')
    parser.add_argument('--test-images', type=int, default=400, help='pictures to score on')
    parser.add_argument('--pretraining-epochs', type=int, default=3, help='epochs of the class-agnostic pre-training')
    parser.add_argument('--size', type=int, default=112, help='side of the input in pixels, a multiple of 16')
    parser.add_argument('--epochs', type=int, default=2, help='epochs of every row')
    parser.add_argument('--lr', type=float, default=5e-4, help='learning rate of every row')
    parser.add_argument('--warmup', type=int, default=100, help='steps over which the learning rate of a row rises')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time; they share the cores')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='settings for all trainings, the pre-training too')
    parser.add_argument('--hard', action='store_true', help='compare on the hard variant of the data')
    parser.add_argument('--table', action='store_true', help='only print the table of the finished rows')
    args = parser.parse_args()
    for name in ('images', 'test_images', 'pretraining_epochs', 'size', 'epochs', 'lr', 'warmup', 'jobs'):
        if not getattr(args, name) > 0:
            parser.error(f'--{name.replace("_", "-")} must be more than 0, got {getattr(args, name)}')
    if args.size % 16:
        parser.error(f'--size {args.size} is not a multiple of 16')
    if min(args.seeds) < 0:
        parser.error(f'--seeds must be 0 or more, got {min(args.seeds)}')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from mmengine.utils import get_git_hash

from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import atomic_write_text, check_folder, wrap_write_errors

ROOT = Path(__file__).resolve().parents[1]
PRETRAINING = 'configs/dit_sam/sam_vit-t_shapes.py'
TEXT_PRETRAINING = 'reproduction/pretrain_text_encoder.py'
NO_VALIDATION = ('val_evaluator=None', 'val_cfg=None', 'val_dataloader=None', 'default_hooks.checkpoint.save_best=None')
# The rows of the main claims are run with every seed, the others with the first.
MAIN = ('default', 'E-DIT', 'L-DIT', 'L-DIT from block 4')
SCORES = ('oIoU', 'mIoU', 'P@0.5', 'P@0.7', 'P@0.9', 'mIoU/attribute', 'mIoU/place', 'mIoU/relation')
# Of the hard data only.
NESTED = 'mIoU/nested'


class Comparison:
    """The data, the pre-training and the runs under one folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.folder = args.work_dir

    def options(self, config: str) -> list[str]:
        """Settings of all trainings and tests."""
        scale = f'({self.args.size},{self.args.size})'
        # The image of the text encoder comes before the resizing.
        more = int('evf' in config)
        return [
            f'model.backbone.img_size={self.args.size}',
            f'model.data_preprocessor.size={scale}',
            f'train_dataloader.dataset.pipeline.{2 + more}.scale={scale}',
            f'test_dataloader.dataset.pipeline.{1 + more}.scale={scale}',
            *self.args.cfg_options,
        ]

    def call(self, log: str, *command: object, jobs: int = 1) -> None:
        """Run a tool of this repository, with its share of the cores among `jobs`; its output goes to `log`.

        Raises:
            RuntimeError: It failed.
        """
        environment = dict(OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 1) // jobs))) | dict(os.environ)
        line = [sys.executable, *map(str, command)]
        with wrap_write_errors(self.folder / log), open(self.folder / log, 'a') as file:
            done = subprocess.run(line, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        if done.returncode:
            raise RuntimeError(f'{command[0]} ended with status {done.returncode}: see {self.folder / log}')

    def data(self, name: str, images: int, seed: int, splits: str) -> Path:
        """Write a `shapes` data set; the converter keeps an existing one."""
        with wrap_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        out = (self.folder / f'{name}{"_hard" * self.args.hard}').resolve()
        options = ['--out', out, '--images', images, '--seed', seed, '--splits', splits, *['--hard'] * self.args.hard]
        self.call('data.log', 'tools/dataset_converters/shapes.py', *options)
        return out

    def train(self, config: str, name: str, epochs: int, *options: str, jobs: int = 1) -> Path:
        """Train, or continue an interrupted training; return the last checkpoint."""
        work_dir = (self.folder / name).resolve()
        last = work_dir / f'epoch_{epochs}.pth'
        if last.exists():
            return last
        length = [f'train_cfg.max_epochs={epochs}', f'param_scheduler.1.end={epochs}']
        settings = [
            f'train_dataloader.dataset.data_root={self.training}/',
            *NO_VALIDATION,
            *length,
            *self.options(config),
        ]
        flags = ['--work-dir', work_dir, '--resume', *['--amp'] * self.args.amp]
        self.call(f'{name}.log', 'tools/train.py', config, *flags, '--cfg-options', *settings, *options, jobs=jobs)
        if not last.exists():  # a signal ends a training with status 0
            raise RuntimeError(f'the training of {name} was stopped; the same command continues it')
        return last

    def score(self, config: str, name: str, checkpoint: Path, options: list[str]) -> dict:
        """Score a row on the test pictures; return the scores, which are also written next to the checkpoint."""
        work_dir = checkpoint.parent / 'test'
        settings = [f'test_dataloader.dataset.data_root={self.testing}/', *self.options(config), *options]
        command = ['tools/test.py', config, checkpoint, '--work-dir', work_dir, '--cfg-options', *settings]
        self.call(f'{name}.log', *command, jobs=self.args.jobs)
        logs = sorted(work_dir.glob('*/*.json'), key=os.path.getmtime)
        return {key: value for key, value in json.loads(logs[-1].read_text()).items() if key in (*SCORES, NESTED)}

    def run(self, row: str, seed: int) -> None:
        """Train and score a row with a seed, unless it is finished."""
        name = name_of(row, seed)
        result = self.folder / f'{name}.json'
        if result.exists():
            return
        weights = dict(backbone=self.weights, decode_head=self.weights)
        of_row = ROWS[row]
        if row not in BEIT3:
            weights['text_encoder'] = self.text_weights
        options = [*of_row.settings, *(f'model.{part}.init_cfg.checkpoint={file}' for part, file in weights.items())]
        settings = [
            f'randomness.seed={seed}',
            f'optim_wrapper.optimizer.lr={self.args.lr}',
            f'param_scheduler.0.end={self.args.warmup}',
        ]
        epochs = max(1, round(self.args.epochs * of_row.epochs))
        checkpoint = self.train(of_row.config, name, epochs, *settings, *options, jobs=self.args.jobs)
        scores = self.score(of_row.config, name, checkpoint, options)
        budget = {key: getattr(self.args, key) for key in ('images', 'size', 'lr', 'warmup', 'amp', 'cfg_options')}
        about = dict(config=of_row.config, settings=of_row.settings, epochs=epochs, **budget, commit=get_git_hash())
        if self.args.hard:
            about['hard'] = True
        about['seconds_per_step'] = seconds_per_step(checkpoint.parent)
        atomic_write_text(result, json.dumps(dict(row=row, seed=seed, **about, **scores), indent=1) + '\n')
        print(f'{row} (seed {seed}): mIoU {scores["mIoU"]:.1f}', flush=True)

    def run_all(self) -> None:
        """Run the rows that are not finished, `--jobs` at a time.

        Raises:
            InputError: The folder holds a comparison on the other variant of the data.
        """
        check_folder(self.folder)
        if (self.folder / ('train' if self.args.hard else 'train_hard')).exists():
            held = 'ordinary' if self.args.hard else 'hard'
            raise InputError(f'{self.folder} holds a comparison on the {held} data: name another --work-dir')
        self.training = self.data('train', self.args.images, 11, 'train=1.0')
        self.testing = self.data('test', self.args.test_images, 12, 'val=1.0')
        self.weights = self.train(PRETRAINING, 'pretraining', self.args.pretraining_epochs)
        self.text_weights = (self.folder / 'text_encoder.safetensors').resolve()
        if not self.text_weights.exists():
            refs = self.training / 'shapes' / 'refs(unc).p'
            self.call('text_pretraining.log', TEXT_PRETRAINING, CONFIG, refs, '--out', self.text_weights)
        rows = sorted(self.args.rows, key=lambda row: row not in MAIN)
        runs = [(row, seed) for i, seed in enumerate(self.args.seeds) for row in rows if i == 0 or row in MAIN]
        with ThreadPoolExecutor(self.args.jobs) as pool:
            futures = [pool.submit(self.run, *run) for run in runs]
            wait(futures, return_when=FIRST_EXCEPTION)
            pool.shutdown(cancel_futures=True)
        for future in futures:
            if not future.cancelled():
                future.result()

    def table(self) -> str:
        """The finished rows in Markdown: means over seeds, and the lowest and highest mIoU of several seeds.

        Raises:
            InputError: There is no finished row, or a file of scores is damaged.
        """
        results = {
            row: [read_scores(path) for path in sorted(self.folder.glob(f'{name_of(row, "*")}.json'))] for row in ROWS
        }
        hard = any(each.get('hard') for found in results.values() for each in found)
        columns = (*SCORES, NESTED) if hard else SCORES
        lines = [
            '| Scheme | Seeds | ' + ' | '.join(columns) + ' | Paper: oIoU | mIoU |',
            '|---' * (len(columns) + 4) + '|',
        ]
        for row, of_row in ROWS.items():
            found = results[row]
            if not found:
                continue
            cells = [f'{mean(each[key] for each in found):.1f}' for key in columns]
            if len(found) > 1:
                ends = sorted(each['mIoU'] for each in found)
                cells[SCORES.index('mIoU')] += f' ({ends[0]:.1f} to {ends[-1]:.1f})'
            cells += ['–', '–'] if of_row.paper is None else [f'{figure:.2f}' for figure in of_row.paper]
            lines.append(f'| {row} | {len(found)} | ' + ' | '.join(cells) + ' |')
        if len(lines) == 2:
            raise InputError(f'there is no result in {self.folder}: leave out --table, or name another --work-dir')
        return '\n'.join(lines)


def read_scores(path: Path) -> dict:
    """The scores of a run.

    Raises:
        InputError: The file is damaged.
    """
    try:
        scores = json.loads(path.read_text())
        expected = (*SCORES, NESTED) if scores.get('hard') else SCORES
        if all(isinstance(scores[key], (int, float)) for key in expected):
            return scores
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        pass
    raise InputError(f'{path} is damaged: delete it, and the next run scores that row again')


def seconds_per_step(work_dir: Path) -> float:
    """The median time of a training's logged steps."""
    logs = [path.read_text().splitlines() for path in sorted(work_dir.glob('*/vis_data/scalars.json'))]
    return round(median(json.loads(line)['time'] for lines in logs for line in lines), 3)


def name_of(row: str, seed: int | str) -> str:
    """Name of the files of a run."""
    return row.replace('+', '-plus-').replace(', ', '_').replace(' ', '-').replace('--', '-') + f'_seed{seed}'


def main(args: argparse.Namespace) -> None:
    comparison = Comparison(args)
    with one_line_errors(RuntimeError):
        if not comparison.args.table:
            comparison.run_all()
        print(comparison.table())


if __name__ == '__main__':
    main(ARGS)
