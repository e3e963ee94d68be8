"""An interrupted and resumed training is bit-equal to an uninterrupted one."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from processes import run_ranks, run_tool
from resume_project import ROOT, write_config

from dit_sam.engine.compile_hook import compile_blocks
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import RandomStreamHook

# Trainings of two epochs of five steps. A seed is set if the compared trainings do not resume each other.
SEED = 'randomness.seed=7'


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('resume')
    write_config(path)
    return path


def arguments(
    folder: Path, name: str, *options: str, resume: bool = False, amp: bool = False, config: str = 'small.py'
) -> list[str]:
    """The command line that users type."""
    switches = ['--resume'] * resume + ['--amp'] * amp
    seed = [] if any(option.startswith('randomness.') for option in options) else [SEED]
    return [str(folder / config), '--work-dir', str(folder / name), *switches, '--cfg-options', *seed, *options]


def train(folder: Path, name: str, *options: str, status: int = 0, **switches: bool | str) -> str:
    """Train in a separate process; return its output."""
    done = run_tool('train.py', *arguments(folder, name, *options, **switches))
    assert done.returncode == status and (status or 'Traceback' not in done.output), done.output[-3000:]
    return done.output


def train_on_two(folder: Path, name: str, *options: str, **switches: bool) -> list[int]:
    """Train with two ranks of half the batch; their exit statuses."""
    options = ['train_dataloader.batch_size=2', *options]
    return [done.returncode for done in run_ranks(2, 'train.py', *arguments(folder, name, *options, **switches))]


def end(step: int, during: str = 'train', by: str = 'SIGKILL', rank: int = 0) -> list[str]:
    """The options that end a training."""
    return [f'custom_hooks.1.{key}={value}' for key, value in locals().items()]


def differences(a: object, b: object, name: str = '') -> list[str]:
    """Where two checkpoints differ."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    if isinstance(a, dict):
        keys = [name + str(key) for key in a.keys() ^ b.keys()]
        return keys + [each for key in a if key in b for each in differences(a[key], b[key], f'{name}.{key}')]
    if isinstance(a, (list, tuple)):
        return [each for i, (x, y) in enumerate(zip(a, b, strict=True)) for each in differences(x, y, f'{name}[{i}]')]
    return [] if a == b else [name]


def assert_same_end(folder: Path, name: str, reference: str, last: str = 'epoch_2.pth', steps: int = 10) -> None:
    """Weights, averaged weights, optimizer, schedulers and counters of the last checkpoints are equal."""
    actual, expected = (torch.load(folder / each / last, weights_only=True) for each in (name, reference))
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert part in expected and differences(actual[part], expected[part], part) == []
    assert [actual['meta'][key] for key in ('epoch', 'iter', 'seed')] == [
        expected['meta']['epoch'],
        steps,
        expected['meta']['seed'],
    ]


@pytest.fixture(scope='module')
def whole(folder) -> str:
    """An uninterrupted training."""
    train(folder, 'whole')
    return 'whole'


def test_a_training_that_is_killed_repeatedly_equals_an_uninterrupted_one(folder, whole):
    """With SIGKILL. The steps since the last checkpoint are repeated, with the same result."""
    work_dir, output = folder / 'killed', ''
    # In the first epoch, in the writing of its checkpoint, in its validation; inside the second, and at its end.
    for step, during in ((3, 'train'), (1, 'save'), (2, 'val'), (7, 'train'), (10, 'train')):
        output += train(folder, 'killed', *end(step, during), status=-9, resume=True)
        assert len(list(work_dir.glob('.*.part'))) == (during == 'save')
        assert (work_dir / 'epoch_1.pth').exists() == (during == 'val' or step > 3)
    assert not (work_dir / 'epoch_2.pth').exists()
    output += train(folder, 'killed', resume=True)
    assert_same_end(folder, 'killed', whole)
    # The interrupted validation is run, and then the one of the second epoch.
    assert len(re.findall(r'Epoch\(val\) \[1\]\[\d+/\d+\] +oIoU', output)) >= 1
    assert len(re.findall(r'Epoch\(val\) \[2\]\[\d+/\d+\] +oIoU', output)) == 1


def test_signals_save_and_exit_cleanly_inside_an_epoch(folder, whole):
    """Step 8 is the third of the second epoch; the resumed run begins with the fourth. Workers are signaled too."""
    output = ''
    for step, by in ((2, 'SIGINT'), (8, 'SIGTERM')):
        output = train(folder, 'stopped', 'train_dataloader.num_workers=2', *end(step, by=by), resume=True)
        assert f'Stopped by {by} after step {step}' in output and 'Traceback' not in output
        checkpoint = torch.load(folder / 'stopped' / f'stopped_iter_{step}.pth', weights_only=True)
        assert checkpoint['meta']['iter'] == step
    output = train(folder, 'stopped', resume=True)
    steps = re.findall(r'Epoch\(train\) \[(\d+)\]\[(\d+)/5\]', output)
    assert list(dict.fromkeys(steps)) == [('2', '4'), ('2', '5')]
    assert_same_end(folder, 'stopped', whole)


def test_every_rank_draws_its_own_numbers_and_the_same_ones_again(monkeypatch):
    hook, drawn = RandomStreamHook(), []
    hook._seed = 7
    for rank in (0, 1, 0):
        monkeypatch.setattr('dit_sam.mmengine_extras.exact_resume.get_rank', lambda rank=rank: rank)
        hook.before_train_iter(SimpleNamespace(iter=3), 3)
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize('by, status', [('SIGTERM', -15), ('SIGINT', 1)])
def test_a_signal_before_the_first_step_ends_the_run_immediately(folder, by, status):
    """As without the hook, because the step may compile for minutes, and there is nothing to save."""
    output = train(folder, f'early_{by}', *end(1, 'begin', by), status=status)
    assert not list((folder / f'early_{by}').glob('*.pth')) and ('KeyboardInterrupt' in output) == (by == 'SIGINT')


@pytest.mark.parametrize(
    'options, message',
    [
        ('reduce-overhead', "compile='reduce-overhead' is neither True nor a dict of keywords of torch.compile"),
        (dict(modus='default'), "compile={'modus': 'default'}: .*unexpected keyword argument 'modus'"),
        (dict(options={'bogus': 1}), "compile={'options': {'bogus': 1}}: .*bogus"),
        (dict(mode='reduce-overhead'), 'records CUDA graphs, in which each block would overwrite'),
        (dict(options={'triton.cudagraphs': True}), 'records CUDA graphs'),
        (dict(backend='cudagraphs'), 'records CUDA graphs'),
        (dict(mode='fast'), "compile={'mode': 'fast'}: Unrecognized mode=fast"),
    ],
)
def test_compile_options_are_checked_against_torch(options, message):
    cfg = Config.fromfile(ROOT / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')
    cfg.compile = {}
    compile_blocks(cfg)
    assert (cfg.compile, cfg.custom_hooks[-1].type) == (False, 'CompileHook')
    cfg.compile = options
    with pytest.raises(InputError, match=message):
        compile_blocks(cfg)


def test_compiled_blocks_train_and_validate(folder):
    """Without a code generator, which takes minutes; text is padded so that no batch has another shape."""
    output = train(folder, 'compiled', 'compile.backend=eager', 'train_cfg.max_epochs=1')
    assert '2 blocks are compiled in the first step' in output and 'Epoch(val) [1]' in output
    assert Config.fromfile(folder / 'compiled' / 'small.py').model.text_encoder.pad_to_max_length


def test_mixed_precision_and_accumulated_gradients_resume_exactly(folder):
    """Signaled after batch 8, the third of the epoch: the step of batches 8 and 9 is finished first."""
    switches, steps = dict(amp=True), ('optim_wrapper.accumulative_counts=2', 'custom_hooks.0.interval=2')
    train(folder, 'whole_amp', *steps, **switches)
    output = train(folder, 'stopped_amp', *steps, *end(8, by='SIGTERM'), **switches)
    assert 'Stopped by SIGTERM after step 9' in output
    train(folder, 'stopped_amp', *steps, resume=True, **switches)
    assert_same_end(folder, 'stopped_amp', 'whole_amp')


def test_several_sentences_of_an_image_resume_exactly(folder):
    """Items are the eight images. Stopped and resumed with two loading processes, the second step of the last epoch.
    What is drawn in a step, here masked tokens, depends on its number."""
    options = [
        'train_dataloader.dataset.sentences_per_image=2',
        'train_dataloader.dataset.indices=None',
        'train_dataloader.collate_fn.type=flatten_collate',
        'train_dataloader.batch_size=2',
        'model.backbone.instruction.start=1',
        'model.text_encoder.masked_tokens=0.3',
        'model.decode_head.negatives_weight=0.5',
        'train_cfg.val_begin=9',
    ]
    train(folder, 'whole_images', *options)
    options += ['train_dataloader.num_workers=2']
    train(folder, 'stopped_images', *options, *end(6, by='SIGTERM'))
    output = train(folder, 'stopped_images', *options, resume=True)
    steps = re.findall(r'Epoch\(train\) \[(\d+)\]\[(\d+)/4\]', output)
    assert list(dict.fromkeys(steps)) == [('2', '3'), ('2', '4')]
    assert_same_end(folder, 'stopped_images', 'whole_images', steps=8)


def test_two_ranks_resume_exactly(folder):
    """Stopped on one rank, after the step at which the ranks check for signals, then killed on the other."""
    assert train_on_two(folder, 'whole_2') == [0, 0]
    interval = [f'default_hooks.stop_signal.{each}' for each in ('interval=3', 'seconds=1e6')]
    assert train_on_two(folder, 'ended_2', *interval, *end(3, by='SIGTERM')) == [0, 0]
    assert (folder / 'ended_2' / 'stopped_iter_4.pth').exists()
    survivor, killed = train_on_two(folder, 'ended_2', *end(7, rank=1), resume=True)
    assert killed == -9 and survivor not in (0, -9)
    assert train_on_two(folder, 'ended_2', resume=True) == [0, 0]
    assert_same_end(folder, 'ended_2', 'whole_2')
    # There are two newer ones, so the checkpoint of the stop was removed.
    assert not (folder / 'ended_2' / 'stopped_iter_4.pth').exists()


def test_a_drawn_seed_is_kept(folder):
    """The end is that of a training with this seed. Each other option of `randomness` works without the seed."""
    train(folder, 'drawn', 'randomness.deterministic=True', *end(8, by='SIGTERM'))
    seed = torch.load(folder / 'drawn' / 'stopped_iter_8.pth', weights_only=True)['meta']['seed']
    train(folder, 'drawn', 'randomness.diff_rank_seed=True', resume=True)
    assert seed != 7
    train(folder, 'named', f'randomness.seed={seed}')
    assert_same_end(folder, 'drawn', 'named')


def test_a_training_without_epochs_resumes_exactly(folder):
    """With a drawn seed, and workers that have begun to load before the seed is read from the checkpoint."""
    switches, workers = dict(config='iterations.py'), 'train_dataloader.num_workers=1'
    train(folder, 'iterations', 'randomness.seed=None', workers, *end(7, by='SIGTERM'), **switches)
    seed = torch.load(folder / 'iterations' / 'stopped_iter_7.pth', weights_only=True)['meta']['seed']
    train(folder, 'iterations', 'randomness.seed=None', workers, resume=True, **switches)
    train(folder, 'whole_iterations', f'randomness.seed={seed}', **switches)
    assert_same_end(folder, 'iterations', 'whole_iterations', 'iter_10.pth')


def test_an_epoch_of_another_length_starts_over(folder):
    """Stopped after the third of five steps of the second epoch; with half the batch it has ten."""
    train(folder, 'longer', *end(8, by='SIGTERM'))
    output = train(folder, 'longer', 'train_dataloader.batch_size=2', resume=True)
    assert 'The checkpoint was written with 5 steps an epoch, and there are 10 now: epoch 2 starts over' in output
    steps = re.findall(r'Epoch\(train\) \[(\d+)\]\[ *(\d+)/10\]', output)
    assert list(dict.fromkeys(steps)) == [('2', str(step)) for step in range(1, 11)]


def test_a_damaged_newest_checkpoint_is_skipped(folder, whole):
    """It is truncated, so the epoch before it is resumed."""
    shutil.copytree(folder / whole, folder / 'damaged')
    newest = folder / 'damaged' / 'epoch_2.pth'
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    assert f'{newest} is skipped' in train(folder, 'damaged', resume=True)
    assert_same_end(folder, 'damaged', whole)


def test_neither_workers_nor_validations_change_a_training(folder, whole):
    workers = [
        f'{name}_dataloader.{setting}'
        for name in ('train', 'val')
        for setting in ('num_workers=2', 'persistent_workers=True')
    ]
    train(folder, 'workers', *workers, 'train_cfg.val_begin=2')
    assert_same_end(folder, 'workers', whole)
