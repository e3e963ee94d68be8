"""Old checkpoints are removed after new ones are written."""

import multiprocessing
import os
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dit_sam.engine.launch import load_config
from dit_sam.mmengine_extras.checkpoint_io import runners_map_checkpoints
from dit_sam.mmengine_extras.latest_checkpoint import find_latest_checkpoint, remove_old_stops, remove_unfinished_writes
from dit_sam.utils import atomic_write

CONFIG = str(Path(__file__).parents[1] / 'toy_config.py')
FORK = multiprocessing.get_context('fork')


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


def save(path: Path, **meta) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict={}, optimizer={}, meta=meta), path)
    return path


def test_the_newest_checkpoint_is_the_last_saved_by_its_own_account(tmp_path):
    """A copy may have any times: here the newest file is the oldest checkpoint. A training went back to step 5."""
    saved = dict(epoch_2=(3, 10), epoch_3=(1, 15), stopped_iter_7=(4, 7), epoch_1=(2, 5))
    for number, (name, (hour, step)) in enumerate(saved.items()):
        os.utime(save(tmp_path / f'{name}.pth', time=f'20260101_0{hour}0000', iter=step), (number, number))
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'stopped_iter_7.pth')
    # By the clock of the world: the next run may be in another time zone.
    save(tmp_path / 'epoch_5.pth', time='20260101_000000', saved=4e9, iter=25)
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_5.pth')
    (tmp_path / 'epoch_5.pth').unlink()
    # In one second, the later step.
    save(tmp_path / 'iter_8.pth', time='20260101_040000', iter=8)
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_8.pth')


def test_checkpoints_are_found_in_several_folders_and_by_other_names(tmp_path):
    work_dir, elsewhere = tmp_path / 'run', tmp_path / 'elsewhere'
    save(work_dir / 'stopped_iter_3.pth', time='20260101_010000', iter=3)
    newest = save(elsewhere / 'epoch_1.pth', time='20260101_020000', iter=5)
    save(elsewhere / 'best_mIoU_epoch_2.pth', time='20260101_090000', iter=10)
    assert find_latest_checkpoint(str(work_dir), str(elsewhere)) == str(newest)
    named = save(work_dir / 'my_model_2.pth', time='20260101_030000', iter=10)
    assert find_latest_checkpoint(str(work_dir), filename_tmpl='my_model_{}.pth') == str(named)
    padded = save(work_dir / 'snap_004.pth', time='20260101_040000', iter=20)
    assert find_latest_checkpoint(str(work_dir), filename_tmpl='snap_{:03d}.pth') == str(padded)
    # A stop is older than two checkpoints of the other folder.
    for number, path in enumerate((work_dir / 'stopped_iter_3.pth', newest, save(elsewhere / 'snap_002.pth'))):
        os.utime(path, (number, number))
    remove_old_stops(str(work_dir), str(elsewhere), 'snap_{:03d}.pth')
    assert checkpoints(work_dir) == {'my_model_2.pth', 'snap_004.pth'}


def test_an_interrupted_replacement_of_a_folder_loses_nothing(tmp_path):
    """A folder is moved away, the new one is renamed, the old one removed; the next run finishes after a kill."""
    for name in ('.epoch_1.pth.old', '.epoch_2.pth.old', 'epoch_2.pth', '.epoch_3.pth.part'):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
        for path in (tmp_path / name / name, tmp_path / name):
            os.utime(path, (0, 0))
    remove_unfinished_writes(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['epoch_1.pth', 'epoch_2.pth']
    assert (tmp_path / 'epoch_2.pth' / 'epoch_2.pth').exists()


def write_without_end(folder: Path, started: Event) -> None:
    with atomic_write(folder / 'epoch_1.pth') as path:
        path.touch()
        started.set()
        time.sleep(600)


def test_files_that_another_training_may_be_writing_stay(tmp_path):
    """For ten minutes after the last change, unless their writer was on this machine and has ended."""
    started = FORK.Event()
    writer = FORK.Process(target=write_without_end, args=(tmp_path, started))
    writer.start()
    assert started.wait(60)
    (ours,) = tmp_path.glob('.*.part')
    other = f'.epoch_2.pth.{"0" * 6}-{writer.pid:x}-abcdef.part'
    for name, age in {'.epoch_3.pth.part': 0, other: 500, '.epoch_4.pth.part': 700, '.shards.part': 700}.items():
        (tmp_path / name).mkdir() if name == '.shards.part' else (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    # DeepSpeed writes into a folder.
    (tmp_path / '.shards.part' / 'rank.pt').touch()
    os.utime(tmp_path / '.shards.part', (time.time() - 700,) * 2)
    remove_unfinished_writes(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {ours.name, '.epoch_3.pth.part', other, '.shards.part'}
    writer.kill()
    writer.join()
    remove_unfinished_writes(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {'.epoch_3.pth.part', other, '.shards.part'}


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
