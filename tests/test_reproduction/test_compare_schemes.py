"""reproduction/compare_schemes.py: trainings, their results, and bad input."""

import fcntl
import hashlib
import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from comparison_arguments import parse_args
from comparison_results import NESTED, SCORES, read_results
from comparison_tables import scores_table
from processes import ROOT, call_tool
from trainings import TRAINING, about_training, check_training, note_part

from dit_sam.errors import InputError

PATH = str(ROOT / 'reproduction' / 'compare_schemes.py')
TOOL = runpy.run_path(PATH)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--jobs', '0'], '--jobs must be more than 0, got 0'),
        (['--pretrain', '-1'], '--pretrain must be 0 or more, got -1'),
        (
            ['--cfg-options', 'randomness.seed=5'],
            "--cfg-options randomness.seed: the comparison sets this itself for 'default'; leave it out",
        ),
        (
            ['--rows', 'E-DIT', '--cfg-options', 'model.backbone.instruction.type=None'],
            "model.backbone.instruction.type: the comparison sets this itself for 'E-DIT'; leave it out",
        ),
        (['--load-from', 'nowhere{seed}.pth', '--rows', 'L-DIT'], '--load-from nowhere0.pth not found: check the path'),
        (['--load-from', 'afile', '--pretrain'], '--load-from and --pretrain exclude each other'),
        (
            ['--load-from', 'afile', '--rows', 'L-DIT', 'E-DIT'],
            "--load-from is for additions to L-DIT: leave 'E-DIT' out of --rows",
        ),
        (
            ['--cfg-options', 'train_cfg.max_epochs=4'],
            "--cfg-options train_cfg.max_epochs: the comparison sets this itself for 'default'; leave it out",
        ),
        (
            ['--work-dir', 'begun', '--load-from', 'others/start.pth', '--rows', 'L-DIT'],
            'is of a comparison with load_from=None, not others/start.pth: name another --work-dir, or move it away',
        ),
        (
            ['--work-dir', 'continued', '--load-from', 'others/start.pth', '--rows', 'L-DIT'],
            'L-DIT_seed0/training.json starts from other weights than the rest of seed 0: move it away',
        ),
        (
            ['--work-dir', 'busy'],
            'busy is in use by another comparison, or by a training that one has left behind: stop it first',
        ),
        (['--work-dir', 'kept'], 'kept holds results without their data: add --table, or name another --work-dir'),
        (['--data-seed', '12'], '--data-seed must be 0 or more and not 12, the seed of the pictures of the test'),
        (['--lr', 'nan'], '--lr must be more than 0, got nan'),
        (['--size', '100'], '--size 100 is not a multiple of 16'),
        (['--size', '96'], '--size 96 needs --pretrain: the weights in reproduction/start are for 112 pixels'),
        (['--seeds', '0', '-1'], '--seeds must be 0 or more, got -1'),
        (['--rows', 'zebra'], "invalid choice: 'zebra'"),
        (
            ['--work-dir', 'begun', '--hard'],
            'training.json is of a comparison with hard=False, not True: name another --work-dir, or move it away',
        ),
        (
            ['--work-dir', 'begun', '--epochs', '3'],
            'training.json is of a comparison with epochs=2, not 3: name another --work-dir, or move it away',
        ),
        (['--work-dir', 'afile'], 'afile cannot be written to: '),
        (['--plots', 'afile'], 'afile cannot be written to: '),
        (
            ['--work-dir', 'none', '--table'],
            'there is no result in none: leave out --table, or name another --work-dir',
        ),
        (
            ['--epochs', '2', '--rows', 'L-DIT, 4 sentences of an image'],
            "'L-DIT, 4 sentences of an image' would take 1.5 epochs: --epochs 2 must be a multiple of 4, or leave that "
            'row out of --rows',
        ),
        (['--work-dir', 'torn'], 'training.json is damaged: move its folder away, and the next run trains it again'),
        (
            ['--work-dir', 'mixed', '--table'],
            'default_seed1.json is of a comparison with epochs=8, not 2: name another --work-dir, or move it away',
        ),
        (['--work-dir', 'others', '--table'], 'E_seed0.json is of no row that there is now: move it away'),
        (
            ['--work-dir', '.', '--table'],
            'L-DIT_seed0.json is damaged: delete it, and the next run scores that row again',
        ),
    ],
)
def test_bad_input_is_a_one_line_error_before_training(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [PATH])
    begun = dict(row='L-DIT', seed=0, **TOOL['Comparison'](parse_args(TOOL['__doc__'])).budget)
    result = dict(begun, **dict.fromkeys(SCORES, 1.0))
    files = {
        'afile': None,
        'L-DIT_seed0.json': '{"row": "L-',
        'begun/L-DIT_seed0/training.json': begun,
        'torn/L-DIT_seed0/training.json': '{"ima',
        'continued/L-DIT_seed0/training.json': begun | dict(load_from='others/start.pth', load_from_sha256='other'),
        'others/E_seed0.json': result | dict(row='E'),
        'kept/L-DIT_seed0.json': result,
        'mixed/default_seed0.json': result | dict(row='default'),
        'mixed/default_seed1.json': result | dict(row='default', seed=1, epochs=8),
        'busy/.lock': None,
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    torch.save(dict(state_dict=dict(w=torch.ones(1))), tmp_path / 'others' / 'start.pth')
    lock = (tmp_path / 'busy' / '.lock').open()
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert call_tool(PATH, *arguments) in (1, 2)
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / 'work_dirs').exists()


def test_a_stopped_training_gives_no_result(tmp_path: Path) -> None:
    """A signal ends a training with status 0 and without its last checkpoint."""
    args = SimpleNamespace(work_dir=tmp_path, cfg_options=[], amp=False, size=112)
    comparison = TOOL['Comparison'](args)
    comparison.training = tmp_path
    comparison.call = lambda *_, **__: None
    with pytest.raises(RuntimeError, match='the training of L-DIT was stopped'):
        comparison.train('config.py', 'L-DIT', 2)


def test_processes_with_one_core_each_load_their_data_themselves(tmp_path: Path, monkeypatch) -> None:
    """Unless --cfg-options, which come later, say otherwise."""
    monkeypatch.setattr('os.cpu_count', lambda: 4)
    given = ['train_dataloader.num_workers=3', 'test_dataloader.num_workers=3']
    calls: list[list] = []
    for jobs, alone in ((1, False), (2, False), (3, True), (4, True), (8, True)):
        args = SimpleNamespace(work_dir=tmp_path, cfg_options=given, amp=False, size=112, jobs=jobs)
        comparison = TOOL['Comparison'](args)
        comparison.training = tmp_path
        comparison.call = lambda _, *command, jobs: calls.append(list(map(str, command)))
        with pytest.raises(RuntimeError, match='was stopped'):
            comparison.train('config.py', 'L-DIT', 2, jobs=jobs)
        with pytest.raises(ValueError):  # there is no log
            comparison.test('config.py', tmp_path / 'epoch_2.pth', tmp_path / 'test', [])
        for command, loader, setting in zip(calls[-2:], ('train', 'test'), given):
            own = f'{loader}_dataloader.num_workers=0'
            assert (own in command) == alone
            assert not alone or command.index(own) < command.index(setting)


def trained(folder: Path, monkeypatch, content: dict, *arguments: str):
    """A comparison in a folder whose L-DIT was trained: its logs, and a checkpoint with `content`."""
    monkeypatch.setattr(sys, 'argv', [PATH, '--work-dir', str(folder), '--seeds', '0', *arguments])
    args = parse_args(TOOL['__doc__'])
    args.images = args.test_images = 2
    comparison = TOOL['Comparison'](args)
    logs = folder / 'L-DIT' / '1' / 'vis_data'
    logs.mkdir(parents=True)
    steps = (100, 50, 100, 150)  # a resumed training logs some steps again
    lines = [f'{{"step": {step}, "time": {step / 100}, "decode.mean_iou": {step}}}\n' for step in steps]
    (logs / 'scalars.json').write_text(''.join(lines) + '{"step": 2')
    note = dict(row='L-DIT', config='config.py', settings=[], **comparison.budget)
    check_training(folder / 'L-DIT', note)
    note_part(folder / 'L-DIT', jobs=1, bfloat16=False)
    checkpoint = folder / 'L-DIT' / 'epoch_2.pth'
    torch.save(dict(meta={}, **content), checkpoint)
    comparison.train = lambda *_, **__: checkpoint
    return comparison


def test_hard_rows_use_the_hard_data_and_say_so(tmp_path: Path, monkeypatch) -> None:
    """The data and the results are real; the training and its scores are not."""
    content = dict(state_dict=dict(w=torch.ones(1)), ema_state_dict=dict(steps=3))
    comparison = trained(tmp_path, monkeypatch, content, '--hard', '--rows', 'L-DIT')
    comparison.score = lambda *_: dict.fromkeys((*SCORES, NESTED), 50.0)
    comparison.run_all()
    for data in (comparison.training, comparison.testing):
        assert json.loads((data / 'shapes' / 'summary.json').read_text())['arguments']['hard']
    assert (comparison.training.name, comparison.testing.name) == ('train_hard', 'test_hard')
    result = json.loads((tmp_path / 'L-DIT_seed0.json').read_text())
    assert (result['hard'], result['row'], result['test_size'], result['images']) == (True, 'L-DIT', 112, 2)
    assert result['bfloat16'] is False
    # Median and mean of 0.5, 1 and 1.5 seconds; 150 steps.
    assert (result['seconds_per_step'], result['training_minutes']) == (1.0, 2.5)
    assert result['training_iou'] == [50, 100, 150]
    assert len(result['commit']) >= 7
    header = scores_table(read_results(tmp_path)).splitlines()[0]
    assert header.endswith('| mIoU/relation | mIoU/nested | Paper: oIoU | mIoU |')


def test_a_row_is_scored_with_the_last_weights_and_another_with_their_average(tmp_path: Path, monkeypatch) -> None:
    average, last = dict(w=torch.tensor(1.0)), {'module.w': torch.tensor(2.0), 'steps': 3}
    content = dict(state_dict=average, ema_state_dict=last)
    comparison = trained(tmp_path, monkeypatch, content, '--rows', 'L-DIT', 'L-DIT, EMA')
    scored = {}

    def score(config, name, weights, *_):
        scored[name] = float(torch.load(weights)['state_dict']['w'])
        return dict.fromkeys(SCORES, 50.0)

    comparison.score = score
    comparison.run_all()
    assert scored == {'L-DIT_seed0': 2, 'L-DIT_EMA_seed0': 1}
    torch.save(dict(meta={}, state_dict=average), tmp_path / 'L-DIT' / 'epoch_2.pth')
    with pytest.raises(RuntimeError, match='L-DIT has no averaged weights: move it away'):
        comparison.run('L-DIT, EMA', 1)


def test_rows_start_from_a_new_pretraining_on_request(tmp_path: Path, monkeypatch) -> None:
    argv = [PATH, '--work-dir', str(tmp_path), '--rows', 'L-DIT', '--seeds', '0', '--pretrain']
    monkeypatch.setattr(sys, 'argv', argv)
    comparison, calls, started = TOOL['Comparison'](parse_args(TOOL['__doc__'])), [], {}
    comparison.data = lambda name, *_: tmp_path / name
    comparison.train = lambda config, name, epochs, *options, **_: (
        calls.append((name, epochs, options)) or tmp_path / 'sam.pth'
    )
    comparison.call = lambda log, *command: calls.append(command[-1].name)
    comparison.run = lambda row, seed: started.update({row: comparison.initial_weights(row)})
    comparison.run_all()
    assert calls == [('pretraining', 3, ('randomness.seed=0',)), 'text_encoder.safetensors']
    folder = tmp_path.resolve()
    assert started['L-DIT'] == [
        f'model.backbone.init_cfg.checkpoint={tmp_path / "sam.pth"}',
        f'model.decode_head.init_cfg.checkpoint={tmp_path / "sam.pth"}',
        f'model.text_encoder.init_cfg.checkpoint={folder / "text_encoder.safetensors"}',
    ]


def test_rows_start_from_a_trained_model_on_request(tmp_path: Path, monkeypatch) -> None:
    starts, calls = [tmp_path / f'L-DIT_seed{seed}' / 'epoch_8.pth' for seed in (0, 1)], []
    for i, start in enumerate(starts):
        start.parent.mkdir()
        torch.save(dict(state_dict=dict(w=torch.tensor([float(i)]))), start)
    template = str(tmp_path / 'L-DIT_seed{seed}' / 'epoch_8.pth')
    options = ('--rows', 'L-DIT', '--load-from', template, '--seeds', '0', '1')
    comparison = trained(tmp_path, monkeypatch, dict(state_dict=dict(w=torch.ones(1))), *options)
    train = comparison.train
    comparison.train = lambda *args, **_: calls.append(args) or train()
    comparison.score = lambda *_: dict.fromkeys(SCORES, 50.0)
    comparison.run_all()
    for seed, start in enumerate(starts):
        assert [option for option in calls[seed] if 'load_from' in str(option)] == [f'load_from={start.resolve()}']
        result = json.loads((tmp_path / f'L-DIT_seed{seed}.json').read_text())
        assert result['load_from'] == 'L-DIT_seed{seed}/epoch_8.pth'
        bits = b'w' + torch.tensor([float(seed)]).numpy().tobytes()
        assert result['load_from_sha256'] == hashlib.sha256(bits).hexdigest()


def test_a_training_is_noted_before_it_starts(tmp_path: Path) -> None:
    """And is not taken for another one, or continued as one; what may change is noted for each part of it."""
    folder, facts = tmp_path / 'L-DIT_seed0', dict(row='L-DIT', settings=('a=1',), epochs=8)
    check_training(folder, facts)
    for bfloat16 in (True, True, False):
        note_part(folder, jobs=2, bfloat16=bfloat16)
        check_training(folder, facts)
    for changed in (dict(epochs=16), dict(settings=('a=2',)), dict(seed=1)):
        with pytest.raises(InputError, match=f'L-DIT_seed0 holds a training with {min(changed)}='):
            check_training(folder, facts | changed)
    with pytest.raises(InputError, match='the logs in .*L-DIT_seed0 are missing: move'):
        about_training(folder)
    logs = folder / '1' / 'vis_data'
    logs.mkdir(parents=True)
    (logs / 'scalars.json').write_text('{"step": 50, "time": 0.5, "decode.mean_iou": 30}')
    found = about_training(folder)
    assert (found['bfloat16'], found['jobs'], found['training_iou']) == ('partly', 2, [30])
    assert 'resumed_with' not in found
    (folder / 'epoch_8.pth').touch()
    (folder / TRAINING).unlink()
    with pytest.raises(InputError, match='training.json is missing: move'):
        check_training(folder, facts)


def test_a_failed_row_does_not_stop_the_others(tmp_path: Path, monkeypatch) -> None:
    """Rows that share their weights run one after the other, and not after the first one has failed."""
    rows = ['E-DIT', 'L-DIT', 'L-DIT, tested larger', 'default']
    monkeypatch.setattr(
        sys, 'argv', [PATH, '--work-dir', str(tmp_path), '--rows', *rows, '--seeds', '0', '--jobs', '2']
    )
    comparison, done = TOOL['Comparison'](parse_args(TOOL['__doc__'])), []
    comparison.data = comparison.train = lambda *_, **__: tmp_path

    def run(row: str, seed: int) -> None:
        if row == 'L-DIT':
            raise RuntimeError('it has failed')
        done.append(row)

    comparison.run = run
    with pytest.raises(RuntimeError, match='^it has failed$'):
        comparison.run_all()
    assert sorted(done) == ['E-DIT', 'default']
