"""The loss curve of the small config: `python tests/test_training/golden_loss.py` writes golden_loss.json anew.

Do this only if a change is meant to change the training, and give the reason in the commit.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.append(str(Path(__file__).parents[1]))

from processes import ROOT, run_tool

from dit_sam.datasets.shapes import write_shapes

GOLDEN = Path(__file__).with_suffix('.json')
CONFIG = ROOT / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py'
STEPS, BATCH = 20, 4


def write_data(folder: Path) -> None:
    """Pictures for twenty steps of four items; the same bytes everywhere."""
    write_shapes(folder / 'data', images=50, seed=5, size=96, splits=dict(train=0.9, val=0.1))


def arguments(folder: Path, work_dir: Path, ranks: int = 1, steps: int = STEPS, **more: object) -> list[str]:
    """The command line for twenty steps of the unchanged config: a batch of four, a warm-up of ten steps."""
    options = {
        'train_dataloader.dataset.data_root': f'{folder}/data/',
        'val_dataloader.dataset.data_root': f'{folder}/data/',
        'train_dataloader.dataset.indices': steps * BATCH,
        'train_dataloader.batch_size': BATCH // ranks,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'train_cfg.max_epochs': 1,
        # No validation.
        'train_cfg.val_begin': 2,
        'param_scheduler.0.end': 10,
        'default_hooks.logger.interval': 1,
        # Each step's own loss in the log, and not the mean of the last ten.
        'log_processor.window_size': 1,
        'randomness.seed': 0,
        **more,
    }
    return [str(CONFIG), '--work-dir', str(work_dir), '--cfg-options', *(f'{k}={v}' for k, v in options.items())]


def losses(work_dir: Path) -> list[float]:
    """The losses that the training in a folder has logged, in order."""
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    return [record['loss'] for record in map(json.loads, file.read_text().splitlines()) if 'loss' in record]


def train(folder: Path) -> list[float]:
    """The losses of the twenty steps on one rank."""
    write_data(folder)
    done = run_tool('train.py', *arguments(folder, folder / 'one'))
    assert done.returncode == 0, done.output[-3000:]
    return losses(folder / 'one')


if __name__ == '__main__':
    with TemporaryDirectory() as name:
        GOLDEN.write_text(json.dumps([round(loss, 7) for loss in train(Path(name))]) + '\n')
