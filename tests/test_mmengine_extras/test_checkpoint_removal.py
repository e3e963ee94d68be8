"""Old checkpoints are removed after new ones are written."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dit_sam.engine.launch import load_config
from dit_sam.mmengine_extras.checkpoint_io import runners_map_checkpoints
from dit_sam.mmengine_extras.latest_checkpoint import find_latest_checkpoint, remove_old_stops

CONFIG = str(Path(__file__).parents[1] / 'toy_config.py')


def toy_runner(tmp_path: Path, **changes) -> Runner:
    changes = {'train_cfg.max_epochs': 4, 'default_hooks.checkpoint.max_keep_ckpts': 2, 'randomness.seed': 0, **changes}
    cfg = load_config(CONFIG, work_dir=str(tmp_path), cfg_options=changes)
    cfg.experiment_name = f'{tmp_path.name}_{len(changes)}'
    return Runner.from_cfg(cfg)


def checkpoints(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.glob('*.pth')}


@pytest.mark.parametrize('what', ['best_', 'epoch_'])
def test_a_failed_write_removes_nothing(tmp_path, monkeypatch, what):
    """At every write of the training, the files that it will replace still exist."""
    runner, before = toy_runner(tmp_path), []
    save = runner.save_checkpoint

    def fail(out_dir, filename, *args, **kwargs):
        if filename.startswith(what) and len([name for name in checkpoints(tmp_path) if name.startswith(what)]) > (
            what == 'epoch_'
        ):
            before.append(checkpoints(tmp_path))
            raise OSError('No space left on device')
        save(out_dir, filename, *args, **kwargs)

    monkeypatch.setattr(runner, 'save_checkpoint', fail)
    with pytest.raises(OSError, match='No space left'):
        runner.train()
    assert before == [checkpoints(tmp_path)]
    kept = dict(best_={'best_mIoU_epoch_1.pth'}, epoch_={'epoch_1.pth', 'epoch_2.pth'})[what]
    assert kept <= checkpoints(tmp_path)


def test_a_training_keeps_the_newest_and_the_best_with_its_scores(tmp_path):
    toy_runner(tmp_path).train()
    names = checkpoints(tmp_path)
    (best,) = names - {'epoch_3.pth', 'epoch_4.pth'}
    checkpoint = torch.load(tmp_path / best, weights_only=True)
    info = checkpoint['message_hub']['runtime_info']
    assert best == f'best_mIoU_epoch_{info["scores"]["epoch"]}.pth'
    assert info['scores']['mIoU'] == info['best_score'] and checkpoint['meta']['epoch'] == info['scores']['epoch']


def test_stop_checkpoints_are_removed_once_two_are_newer(tmp_path):
    names = ['epoch_1.pth', 'stopped_iter_5.pth', 'iter_6.pth', 'stopped_iter_7.pth']
    for number, name in enumerate(names):
        torch.save(dict(state_dict={}, optimizer={}, meta={}), tmp_path / name)
        # One second apart, whatever the clock of the file system.
        os.utime(tmp_path / name, (number, number))
    remove_old_stops(str(tmp_path))
    assert checkpoints(tmp_path) == {'epoch_1.pth', 'iter_6.pth', 'stopped_iter_7.pth'}
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'stopped_iter_7.pth')


class SeeMapsHook(Hook):
    """Record which files this process has mapped, after loading the checkpoint and in each step."""

    def __init__(self) -> None:
        self.loading, self.training = '', []

    def after_load_checkpoint(self, runner, checkpoint):
        self.loading = Path('/proc/self/maps').read_text()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.training.append(Path('/proc/self/maps').read_text())


def test_a_resumed_training_maps_its_checkpoint_only_while_loading(tmp_path):
    """A mapped file would keep its space on the disk when it is removed."""
    toy_runner(tmp_path, **{'train_cfg.max_epochs': 1}).train()
    path = tmp_path / 'epoch_1.pth'
    runner, hook = toy_runner(tmp_path, load_from=str(path), resume=True, **{'train_cfg.max_epochs': 2}), SeeMapsHook()
    runner.register_hook(hook)
    with runners_map_checkpoints():
        runner.train()
    assert path.name in hook.loading
    assert len(hook.training) == 4 and not any(path.name in maps for maps in hook.training)
