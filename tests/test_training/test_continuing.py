"""Trainings that are stopped at awkward moments continue where they were, and leave other trainings alone.

Three epochs of four steps of the toy model, in this process; `test_exact_resume.py` has a real model and two ranks.
"""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from processes import ROOT

from dit_sam.engine.launch import load_config, resume_latest

LINEAR = dict(type='LinearLR', start_factor=1.0, end_factor=0.1, begin=0, end=6, by_epoch=True)


class Probe(Hook):
    """Record steps, rates and validations, and send a signal after a step or in the validation of an epoch."""

    priority = 'VERY_LOW'
    signal = signal.SIGTERM

    def __init__(self, step: int | None, validation: int | None) -> None:
        self.step, self.validation = step, validation
        self.steps: list[tuple[int, int, int]] = []
        self.rates: list[float] = []
        self.validations: list[int] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps.append((runner.epoch + 1, batch_idx + 1, runner.iter + 1))
        self.rates += runner.optim_wrapper.get_lr()['lr']
        if runner.iter + 1 == self.step:
            os.kill(os.getpid(), self.signal)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            self.validations.append(runner.epoch)
            if runner.epoch == self.validation:
                os.kill(os.getpid(), self.signal)


def train(
    folder: Path,
    *,
    resume: bool = False,
    stop: int | None = None,
    in_validation: int | None = None,
    max_epochs: int = 3,
    state_of: str | None = None,
    **options,
) -> Probe:
    """Train, and return what was recorded; a run that is to stop exits with status 0."""
    settings: dict[str, Any] = {
        'train_cfg': dict(_delete_=True, type='ResumableTrainLoop', max_epochs=max_epochs, val_interval=1),
        'train_dataloader.sampler.type': 'ResumableSampler',
        'val_cfg': dict(_delete_=True, type='ValLoop'),
        'log_level': 'ERROR',
        **{key.replace('__', '.'): value for key, value in options.items()},
    }
    cfg = load_config(str(ROOT / 'tests' / 'toy_config.py'), work_dir=str(folder), cfg_options=settings)
    train.count = getattr(train, 'count', 0) + 1
    cfg.experiment_name = f'continuing_{train.count}'
    if resume:
        resume_latest(cfg)
    if state_of:
        cfg.resume, cfg.load_from = True, state_of
    probe = Probe(stop, in_validation)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(probe)
    if stop or in_validation:
        with pytest.raises(SystemExit) as stopped:
            runner.train()
        assert stopped.value.code == 0
    else:
        runner.train()
    for handler in runner.logger.handlers:
        handler.close()
    return probe


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob('*.pth'))


def weights(folder: Path, name: str = 'epoch_3.pth') -> dict[str, torch.Tensor]:
    return torch.load(folder / name, weights_only=True)['state_dict']


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Path:
    """An uninterrupted training."""
    folder = tmp_path_factory.mktemp('continuing') / 'whole'
    assert len(train(folder).steps) == 12
    return folder


def same_end(folder: Path, whole: Path, name: str = 'epoch_3.pth') -> bool:
    return all(torch.equal(value, weights(whole)[key]) for key, value in weights(folder, name).items())


def test_a_stop_after_the_last_step_of_an_epoch_repeats_nothing(tmp_path, whole):
    train(tmp_path, stop=8)
    assert 'epoch_2.pth' not in files(tmp_path)
    again = train(tmp_path, resume=True)
    assert again.steps == [(3, step, 8 + step) for step in range(1, 5)] and again.validations == [2, 3]
    assert 'epoch_2.pth' in files(tmp_path) and same_end(tmp_path, whole)


def test_checkpoints_by_steps_at_the_end_of_an_epoch_repeat_nothing(tmp_path, whole):
    by_steps = dict(default_hooks__checkpoint=dict(by_epoch=False, interval=4, save_best=None))
    train(tmp_path, **by_steps)
    assert train(tmp_path, resume=True, **by_steps).steps == []
    assert same_end(tmp_path, whole, 'iter_12.pth')


@pytest.mark.parametrize('number', [signal.SIGUSR1, signal.SIGHUP])
def test_slurms_signal_and_a_lost_terminal_stop_a_training(tmp_path, monkeypatch, number):
    """Unless the program handles the signal itself, or nohup has it ignored."""
    monkeypatch.setattr(Probe, 'signal', number)
    # The tests themselves may run under nohup.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        train(tmp_path / 'stopped', stop=5, max_epochs=2)
        assert signal.signal(number, signal.SIG_IGN) is signal.SIG_DFL
        monkeypatch.setattr(Probe, 'after_train_iter', lambda *_, **__: os.kill(os.getpid(), number))
        train(tmp_path / 'ignored', max_epochs=2)
    finally:
        signal.signal(number, before)
    assert 'stopped_iter_5.pth' in files(tmp_path / 'stopped') and 'epoch_2.pth' in files(tmp_path / 'ignored')


def test_after_an_error_signals_have_their_usual_effect(tmp_path, monkeypatch):
    """In a notebook, or in a loop over trainings. Shells have background jobs, such as these tests, ignore SIGINT."""
    monkeypatch.setattr(Probe, 'after_train_iter', lambda self, *arguments, **keywords: 1 / 0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        with pytest.raises(ZeroDivisionError):
            train(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('averaged', [False, True])
def test_a_stop_in_a_validation_saves_what_is_not_saved_yet(tmp_path, averaged):
    """With averaged weights, the model has these during the validation."""
    rare = dict(default_hooks__checkpoint__interval=3)
    if averaged:
        rare['custom_hooks'] = [dict(type='EMAHook', momentum=0.5)]
    train(tmp_path / 'whole', **rare)
    train(tmp_path / 'stopped', in_validation=2, **rare)
    assert 'stopped_iter_8.pth' in files(tmp_path / 'stopped')
    again = train(tmp_path / 'stopped', resume=True, **rare)
    assert len(again.steps) == 4 and again.validations == [2, 3]
    for name, value in weights(tmp_path / 'whole').items():
        assert torch.equal(weights(tmp_path / 'stopped')[name], value)


def test_a_validation_that_was_due_by_its_own_interval_is_made_up_for(tmp_path):
    """Every third epoch, and with mmengine's count from the second one on every one."""
    loop = dict(_delete_=True, type='ResumableTrainLoop', max_epochs=3, val_interval=3, dynamic_intervals=[(3, 1)])
    assert train(tmp_path, in_validation=2, train_cfg=dict(loop)).validations == [2]
    assert train(tmp_path, resume=True, train_cfg=dict(loop)).validations == [2, 3]


def test_the_last_validation_is_made_up_for_once(tmp_path):
    train(tmp_path, in_validation=3)
    assert not [name for name in files(tmp_path) if name.startswith(('best_mIoU_epoch_3', 'stopped'))]
    again = train(tmp_path, resume=True)
    assert again.steps == [] and again.validations == [3]
    # The toy improves in each epoch.
    assert 'best_mIoU_epoch_3.pth' in files(tmp_path)
    assert train(tmp_path, resume=True).validations == []


def test_a_finished_training_does_nothing_more(tmp_path):
    """The last checkpoint has the scores of its epoch, also if it is not the best."""
    not_best = dict(default_hooks__checkpoint__rule='less')
    train(tmp_path, **not_best)
    assert 'best_mIoU_epoch_1.pth' in files(tmp_path)
    hub = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)['message_hub']
    assert hub['runtime_info']['scores']['epoch'] == 3
    again = train(tmp_path, resume=True, **not_best)
    assert again.steps == again.validations == []


def test_a_training_that_continues_another_one_leaves_its_files(tmp_path):
    train(tmp_path / 'parent')
    before = files(tmp_path / 'parent')
    last = str(tmp_path / 'parent' / 'epoch_3.pth')
    child = train(tmp_path / 'child', max_epochs=5, state_of=last)
    assert child.steps[0] == (4, 1, 13)
    assert files(tmp_path / 'parent') == before and 'best_mIoU_epoch_3.pth' in before
    assert [name for name in files(tmp_path / 'child') if name.startswith('best')] == ['best_mIoU_epoch_5.pth']


def test_only_the_best_checkpoint_is_kept_without_others(tmp_path):
    train(tmp_path, default_hooks__checkpoint__interval=-1)
    assert files(tmp_path) == ['best_mIoU_epoch_3.pth', 'epoch_3.pth']


def test_checkpoints_that_are_not_due_are_not_written(tmp_path):
    train(tmp_path, default_hooks__checkpoint=dict(interval=2, save_last=False, rule='less'))
    assert files(tmp_path) == ['best_mIoU_epoch_1.pth', 'epoch_2.pth']


def test_a_training_whose_parent_stays_the_best_can_publish(tmp_path):
    train(tmp_path / 'parent', default_hooks__checkpoint__rule='less')
    last = str(tmp_path / 'parent' / 'epoch_3.pth')
    publish = dict(rule='less', published_keys=['meta', 'state_dict'])
    train(tmp_path / 'child', max_epochs=4, state_of=last, default_hooks__checkpoint=publish)
    assert len(files(tmp_path / 'child')) == 2


@pytest.mark.parametrize('converted', [False, True])
def test_the_schedule_follows_another_length_of_the_epochs(tmp_path, converted):
    """From four steps an epoch to eight, after two epochs: as in a training that always had eight."""
    settings = dict(max_epochs=6, param_scheduler=[dict(LINEAR, convert_to_iter_based=converted)])
    train(tmp_path / 'other', stop=10, **settings)
    again = train(tmp_path / 'other', resume=True, train_dataloader__batch_size=1, **settings)
    always = train(tmp_path / 'always', train_dataloader__batch_size=1, **settings)
    assert again.steps == always.steps[16:]
    assert again.rates == pytest.approx(always.rates[16:])
