"""The paper's comparison of schemes in miniature, on generated data: all rows start from the same weights.

Usage:
    python reproduction/compare_schemes.py --work-dir work_dirs/compare_schemes [--jobs 2] [--rows main]
    python reproduction/compare_schemes.py --work-dir work_dirs/compare_schemes --table

Writes data, then trains and scores every row and seed with tools/train.py and tools/test.py. All rows start from the
weights in reproduction/start. With --pretrain they start from new ones: a small SAM without text, trained on points and
boxes, and a small BERT without images, trained on masked words. With --load-from those of a seed start from a trained
L-DIT. A second run skips finished rows and continues interrupted ones. A row that fails stops no others but those that
are scored on its weights.
"""

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from comparison_arguments import TEST_DATA_SEED, parse_args, start_of

if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args(__doc__)

from comparison_plots import write_plots
from comparison_results import BUDGET, CENTERED, NESTED, SCORES, check_budgets, read_note, read_results, read_scores
from comparison_rows import AVERAGED, AVERAGING, BEIT3, CONFIG, PREDICTS_IOU, ROWS, name_of
from comparison_tables import TABLES_OF_RESULTS
from dump_scores import attribute_scores, calibration
from trainings import TRAINING, about_training, as_lines, check_training, fingerprint, note_part, weights_to_score
from workspace import ROOT, Workspace, loader_settings

from dit_sam.compat import has_bfloat16, usual_device
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import atomic_write_text, check_folder, wrap_write_errors

PATCH = 16
# From --pretrain, SAM stored in float16.
START = ROOT / 'reproduction' / 'start'
PRETRAINING = 'configs/dit_sam/sam_vit-t_shapes.py'
WORD_SHARES = 'tools/analysis_tools/word_shares.py'
TEXT_PRETRAINING = 'reproduction/pretrain_text_encoder.py'
TEST_DATA = 'test_dataloader.dataset'
GENERALIZED = (
    f'{TEST_DATA}.type=GRefCOCODataset',
    f'{TEST_DATA}.ann_file=gshapes/instances.json',
    f'{TEST_DATA}.refs_file=gshapes/grefs(unc).json',
)
# A line of the log is the mean of 50 steps.
WHOLE_LOG = 'log_processor.window_size=50'
NO_VALIDATION = ('val_evaluator=None', 'val_cfg=None', 'val_dataloader=None', 'default_hooks.checkpoint.save_best=None')


def length(epochs: int) -> list[str]:
    """Settings of how long to train."""
    return [f'train_cfg.max_epochs={epochs}', f'param_scheduler.1.end={epochs}']


class Comparison(Workspace):
    """The data, the pre-training and the runs under one folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args.work_dir)
        self.args = args
        # For each seed, which weights of --load-from it continues.
        self.starts: dict[int, str] = {}

    def options(self, config: str, side: int | None = None) -> list[str]:
        """Settings of all trainings and tests; `side` is that of the input, if it is not that of the weights."""
        scale = f'({side or self.args.size},{side or self.args.size})'
        # The image of the text encoder comes before the resizing.
        more = int('evf' in config)
        return [
            f'model.backbone.img_size={self.args.size}',
            f'model.data_preprocessor.size={scale}',
            f'train_dataloader.dataset.pipeline.{2 + more}.scale={scale}',
            f'test_dataloader.dataset.pipeline.{1 + more}.scale={scale}',
        ]

    def data(self, name: str, images: int, seed: int, splits: str, *flags: str) -> Path:
        """Write a `shapes` data set; the converter keeps an existing one."""
        with wrap_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        out = (self.folder / name).resolve()
        options = ['--out', out, '--images', images, '--seed', seed, '--splits', splits, *flags]
        self.call('data.log', 'tools/dataset_converters/shapes.py', *options)
        return out

    def train(self, config: str, name: str, epochs: int, *options: str, jobs: int = 1, facts: dict = {}) -> Path:
        """Train, or continue an interrupted training; return the last checkpoint.

        Args:
            config: The config.
            name: Name of its folder.
            epochs: How long.
            *options: Settings.
            jobs: How many run at a time.
            facts: What the training is, for the note in its folder.
        """
        work_dir = (self.folder / name).resolve()
        last = work_dir / f'epoch_{epochs}.pth'
        check_training(work_dir, facts)
        if last.exists():
            return last
        note_part(work_dir, jobs=jobs, bfloat16=self.args.amp and has_bfloat16(usual_device()))
        settings = [
            f'train_dataloader.dataset.data_root={self.training}/',
            *NO_VALIDATION,
            WHOLE_LOG,
            *length(epochs),
            *self.options(config),
            *loader_settings('train_dataloader', jobs),
            *self.args.cfg_options,
            *options,
        ]
        flags = ['--work-dir', work_dir, '--resume', *['--amp'] * self.args.amp]
        self.call(f'{name}.log', 'tools/train.py', config, *flags, '--cfg-options', *settings, jobs=jobs)
        if not last.exists():  # a signal ends a training with status 0
            raise RuntimeError(f'the training of {name} was stopped; the same command continues it')
        return last

    def test(self, config: str, checkpoint: Path, work_dir: Path, options: Sequence[str]) -> tuple[dict, Path]:
        """Test weights; return the scores and the file with the results of each sentence."""
        dump = work_dir / 'dump.jsonl'
        before = [*loader_settings('test_dataloader', self.args.jobs), *self.args.cfg_options]
        options = [*before, *options, f'test_evaluator.dump={dump}']
        command = ['tools/test.py', config, checkpoint, '--work-dir', work_dir, '--cfg-options', *options]
        self.call(f'{work_dir.parent.name}.log', *command, jobs=self.args.jobs)
        log = max(work_dir.glob('*/*.json'), key=os.path.getmtime)
        return json.loads(log.read_text()), dump

    def score(self, config: str, name: str, checkpoint: Path, options: Sequence[str], side: int) -> dict:
        """Score a row on the test pictures with inputs of a size; return the scores, which its folder holds too."""
        work_dir = (self.folder / name).resolve()
        options = [*self.options(config, side), *options]
        data = [f'{TEST_DATA}.data_root={self.testing}/']
        scores, dump = self.test(config, checkpoint, work_dir / 'test', [*data, *options])
        scores = {key: scores[key] for key in (*SCORES, NESTED) if key in scores} | attribute_scores(dump)
        tested = work_dir / 'test' / Path(config).name
        shares = work_dir / 'word_shares.json'
        self.call(f'{name}.log', WORD_SHARES, tested, checkpoint, '--json', shares, jobs=self.args.jobs)
        scores['word_shares'] = json.loads(shares.read_text())
        if PREDICTS_IOU in options:
            data = [f'{TEST_DATA}.data_root={self.generalized}/', *GENERALIZED]
            _, generalized = self.test(config, checkpoint, work_dir / 'test_generalized', [*data, *options])
            scores['calibration'] = calibration(dump, generalized)
        return scores

    def shared_settings(self, seed: int) -> list[str]:
        """Settings of the training of every row."""
        settings = [
            f'randomness.seed={seed}',
            f'optim_wrapper.optimizer.lr={self.args.lr}',
            f'param_scheduler.0.end={self.args.warmup}',
        ]
        if self.args.load_from:
            settings.append(f'load_from={Path(start_of(self.args.load_from, seed)).resolve()}')
        return settings

    def initial_weights(self, row: str) -> list[str]:
        """Settings by which a row starts from the pre-trained weights."""
        weights = dict(backbone=self.weights, decode_head=self.weights)
        if row not in BEIT3:
            weights['text_encoder'] = self.text_weights
        return [f'model.{part}.init_cfg.checkpoint={file}' for part, file in weights.items()]

    def run(self, row: str, seed: int) -> None:
        """Train and score a row with a seed, unless it is finished."""
        name = name_of(row, seed)
        result = self.folder / f'{name}.json'
        if result.exists():
            return
        of_row, trained = ROWS[row], ROWS[row].weights_of or row
        epochs = int(self.args.epochs * ROWS[trained].epochs)  # a whole number, see `check_runs`
        averaging = AVERAGING if trained in AVERAGED else ()
        facts = dict(row=trained, seed=seed, config=ROWS[trained].config, settings=ROWS[trained].settings)
        facts |= self.budget | dict(epochs=epochs, averaging=averaging)
        if seed in self.starts:
            facts['load_from_sha256'] = self.starts[seed]
        options = [*self.shared_settings(seed), *ROWS[trained].settings, *self.initial_weights(row), *averaging]
        checkpoint = self.train(
            ROWS[trained].config, name_of(trained, seed), epochs, *options, jobs=self.args.jobs, facts=facts
        )
        side = PATCH * round(self.args.size * of_row.test_scale / PATCH)
        about = facts | dict(row=row, config=of_row.config, settings=of_row.settings)
        about |= dict(weights_of=trained, weights_sha256=fingerprint(checkpoint), averaged=of_row.averaged)
        scored = weights_to_score(checkpoint, of_row.averaged)
        about |= dict(scored_sha256=fingerprint(scored), test_size=side) | about_training(checkpoint.parent)
        scores = self.score(of_row.config, name, scored, [*of_row.settings, *self.initial_weights(row)], side)
        atomic_write_text(result, as_lines(about | scores))
        print(f'{row} (seed {seed}): mIoU {scores["mIoU"]:.1f}', flush=True)

    @property
    def budget(self) -> dict:
        """The options that all rows of a folder share; of a checkpoint only its name and that of its folder."""
        values, loaded = {key: getattr(self.args, key) for key in BUDGET}, self.args.load_from
        return values | dict(load_from=loaded and '/'.join(Path(loaded).absolute().parts[-2:]), masks=CENTERED)

    def check_contents(self) -> None:
        """Check that the folder holds no other comparison.

        Raises:
            InputError: It does, or a file in it is damaged.
        """
        results = [(path, read_scores(path)) for path in sorted(self.folder.glob('*_seed*.json'))]
        if results and not any(self.folder.glob('train*')):
            raise InputError(f'{self.folder} holds results without their data: add --table, or name another --work-dir')
        remedy = 'move its folder away, and the next run trains it again'
        trainings = [(path, read_note(path, remedy)) for path in sorted(self.folder.glob(f'*_seed*/{TRAINING}'))]
        starts = [(Path(self.args.load_from), dict(seed=key, load_from_sha256=self.starts[key])) for key in self.starts]
        check_budgets([*starts, *results, *trainings], self.budget)

    def check_options(self) -> None:
        """Check that --cfg-options leaves alone what the comparison itself sets.

        Raises:
            InputError: It would have no effect.
        """
        keys = {option.partition('=')[0] for option in self.args.cfg_options}
        for row in self.args.rows:
            trained = ROWS[row].weights_of or row
            own = [*self.shared_settings(0), *ROWS[trained].settings, *ROWS[row].settings, *self.initial_weights(row)]
            own += [*(AVERAGING if trained in AVERAGED else ()), *length(self.args.epochs), *self.options(CONFIG)]
            own += ['train_dataloader.dataset.data_root=', f'{TEST_DATA}.data_root=', 'test_evaluator.dump=']
            taken = keys.intersection(option.partition('=')[0] for option in own)
            if taken:
                raise InputError(
                    f'--cfg-options {min(taken)}: the comparison sets this itself for {row!r}; leave it out'
                )

    def pretrain(self) -> None:
        """Train the weights from which all rows start."""
        self.weights = self.train(PRETRAINING, 'pretraining', self.args.pretrain, 'randomness.seed=0')
        self.text_weights = (self.folder / 'text_encoder.safetensors').resolve()
        if not self.text_weights.exists():
            refs = self.training / 'shapes' / 'refs(unc).p'
            self.call('text_pretraining.log', TEXT_PRETRAINING, CONFIG, refs, '--out', self.text_weights)

    def run_all(self) -> None:
        """Run the rows that are not finished, `--jobs` at a time.

        Raises:
            InputError: The folder holds another comparison, or is in use.
            RuntimeError: A row failed; the others are finished.
        """
        self.weights, self.text_weights = (START / f'{name}.safetensors' for name in ('sam', 'text_encoder'))
        self.check_options()
        check_folder(self.folder)
        if self.args.load_from:
            self.starts = {seed: fingerprint(start_of(self.args.load_from, seed)) for seed in self.args.seeds}
        self.check_contents()
        with wrap_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with self.alone():
            self.run_rows()

    def run_rows(self) -> None:
        """Run the rows, after the checks."""
        suffix, flags = ('_hard', ['--hard']) if self.args.hard else ('', [])
        self.training = self.data(f'train{suffix}', self.args.images, self.args.data_seed, 'train=1.0', *flags)
        self.testing = self.data(f'test{suffix}', self.args.test_images, TEST_DATA_SEED, 'val=1.0', *flags)
        if any(PREDICTS_IOU in ROWS[row].settings for row in self.args.rows):
            self.generalized = self.data(
                'test_generalized', self.args.test_images, TEST_DATA_SEED, 'val=1.0', '--generalized'
            )
        if self.args.pretrain:
            self.pretrain()
        runs = [(row, seed) for seed in self.args.seeds for row in self.args.rows]
        groups: dict[str, list[tuple[str, int]]] = {}
        for row, seed in runs:
            groups.setdefault(name_of(ROWS[row].weights_of or row, seed), []).append((row, seed))
        with ThreadPoolExecutor(self.args.jobs) as pool:
            futures = [pool.submit(lambda group: [self.run(*run) for run in group], group) for group in groups.values()]
            try:
                wait(futures)
            finally:  # after Ctrl-C, which the running trainings also get
                pool.shutdown(cancel_futures=True)
        errors = [error for error in (future.exception() for future in futures) if error is not None]
        for error in errors:
            if not isinstance(error, (InputError, OSError, RuntimeError)):
                raise error
        if errors:
            raise RuntimeError('; '.join(map(str, errors)))


def main(args: argparse.Namespace) -> None:
    comparison = Comparison(args)
    with one_line_errors(RuntimeError):
        if args.plots:  # before the training
            check_folder(args.plots)
        if not args.table:
            comparison.run_all()
        results = read_results(comparison.folder)
        print('\n\n'.join(table for table in (make(results) for make in TABLES_OF_RESULTS) if table))
        if args.plots:
            for path in write_plots(results, args.plots):
                print(f'\n{path}')


if __name__ == '__main__':
    main(ARGS)
