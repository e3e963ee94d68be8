"""The launch scripts: their arguments, and real runs on several machines, by Slurm, and with a rank that dies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import ROOT, dist_environment, free_port, run_ranks, slurm_task

from dit_sam.datasets.shapes import write_shapes

TOY = str(ROOT / 'tests' / 'toy_config.py')
SHAPES = str(ROOT / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')
WEIGHTS = str(ROOT / 'projects' / 'dit_sam' / 'assets' / 'ldit_vit-t_shapes.safetensors')
# Slurm's srun: starts the tasks, each with its number.
SRUN = """
for argument; do
    case "$argument" in
        --ntasks=*) tasks="${argument#*=}" ;;
        --*) ;;
        *) break ;;
    esac
    shift
done
for ((task = 0; task < tasks; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=$tasks SLURM_NODELIST='node[1-2]' "$@" &
done
status=0
for ((task = 0; task < tasks; task++)); do wait -n || status=$?; done
exit $status
"""


def start(name: str, *arguments: object, **environment: str) -> subprocess.Popen:
    command = [str(ROOT / 'tools' / name), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dist_environment(**environment)
    )


def finish(process: subprocess.Popen) -> str:
    """The output of a program that must succeed."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return output


def assert_two_ranks_trained(work_dir: Path, output: str) -> None:
    """Eight items, two a batch, two ranks: two steps an epoch. The metric checks that it is given all eight."""
    assert torch.load(work_dir / 'epoch_2.pth', weights_only=True)['meta']['iter'] == 4
    assert 'Epoch(val) [2][2/2]    mIoU' in output


def test_two_machines_meet_and_train(tmp_path):
    """The same command on both; each has one process."""
    environment = dict(NNODES='2', MASTER_ADDR='localhost', PORT=str(free_port()))
    machines = [
        start('dist_train.sh', TOY, 1, '--work-dir', tmp_path, '--cfg-options', 'randomness.seed=3', **environment)
        for _ in range(2)
    ]
    assert_two_ranks_trained(tmp_path, ''.join(map(finish, machines)))


def write_programs(folder: Path, **programs: str) -> str:
    """Write shell scripts; returns a PATH that finds them first."""
    for name, program in programs.items():
        (folder / name).write_text(f'#!/usr/bin/env bash\n{program}')
        (folder / name).chmod(0o755)
    return f'{folder}:{os.environ["PATH"]}'


def test_slurm_starts_the_tasks(tmp_path):
    task = 'echo "$SLURM_PROCID $SLURM_LOCALID $SLURM_NTASKS $SLURM_NODELIST $*"\n'
    path = write_programs(tmp_path, srun=SRUN, python=task)
    options = ['--work-dir', tmp_path / 'work', '--cfg-options', 'randomness.seed=3']
    job = start('slurm_train.sh', 'gpu', 'toy', TOY, *options, GPUS='2', PATH=path, PYTHON=str(tmp_path / 'python'))
    command = ['-u', ROOT / 'tools' / 'train.py', TOY, '--launcher', 'slurm', *options]
    expected = [[*slurm_task(rank, 2).values(), *map(str, command)] for rank in range(2)]
    assert sorted(line.split() for line in finish(job).splitlines()) == expected


def test_slurms_tasks_meet_and_train(tmp_path):
    """scontrol prints the name of the first machine."""
    path = write_programs(tmp_path, scontrol='echo 127.0.0.1\n')
    options = ['--work-dir', tmp_path / 'work', '--cfg-options', 'randomness.seed=3']
    done = run_ranks(2, 'train.py', TOY, *options, launcher='slurm', PATH=path, PYTHONPATH=str(ROOT / 'tests'))
    assert_two_ranks_trained(tmp_path / 'work', ''.join(one.output for one in done))


def test_a_rank_that_dies_ends_the_others_and_is_named(tmp_path):
    """Killed as by the kernel when memory runs out; the other rank waits for its gradients."""
    config = tmp_path / 'dying.py'
    config.write_text(
        f"_base_ = '{TOY}'\n"
        "custom_imports = dict(imports=['dit_sam', 'toy_project', 'resume_project'])\n"
        "custom_hooks = [dict(type='EndHook', step=2, rank=1)]\n"
    )
    folders = f'{ROOT}/tests:{ROOT}/tests/test_training'
    job = start('dist_train.sh', config, 2, '--work-dir', tmp_path, PYTHONPATH=folders)
    # The two processes take seconds to start; after the kill, the other one has a minute.
    output, _ = job.communicate(timeout=60 + 120)
    assert job.returncode != 0
    assert 'rank      : 1 (local_rank: 1)' in output and 'Signal 9 (SIGKILL)' in output
    assert not (tmp_path / 'epoch_2.pth').exists()


@pytest.fixture(scope='module')
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('pictures')
    write_shapes(folder, images=6, seed=11, splits=dict(val=1.0))
    return folder


def test_two_ranks_give_the_scores_of_one(pictures, tmp_path):
    """A number of sentences that neither ranks nor batches divide."""
    options = [
        '--cfg-options',
        f'test_dataloader.dataset.data_root={pictures}/',
        'test_dataloader.dataset.indices=13',
        'test_dataloader.batch_size=4',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
    ]
    for name, ranks in (('one', 1), ('two', 2)):
        for done in run_ranks(ranks, 'test.py', SHAPES, WEIGHTS, '--work-dir', tmp_path / name, *options):
            assert done.returncode == 0, done.output[-3000:]
    one, two = (json.loads(next((tmp_path / name).glob('*/*.json')).read_text()) for name in ('one', 'two'))
    scores = {name: value for name, value in one.items() if name not in ('data_time', 'time')}
    assert scores['mIoU'] > 80 and scores == {name: two[name] for name in scores}


def run(*command, **changes) -> subprocess.CompletedProcess:
    """Run a command outside the repository, with one thread and without a GPU."""
    env = {
        **os.environ,
        'PYTHON': sys.executable,
        'PYTHONPATH': str(ROOT / 'tests'),
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        **changes.pop('env', {}),
    }
    command = [str(part) for part in command]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, **changes)


def print_arguments(path: Path) -> str:
    """Write a program that prints its arguments, one a line."""
    path.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    'name, arguments, expected',
    [
        (
            'dist_train.sh',
            ['c.py', '8', '--cfg-options', 'a=b c'],
            ['train.py', 'c.py', '--launcher', 'pytorch', '--cfg-options', 'a=b c'],
        ),
        (
            'dist_test.sh',
            ['c.py', 'w.pth', '8', '--tta'],
            ['test.py', 'c.py', 'w.pth', '--launcher', 'pytorch', '--tta'],
        ),
    ],
)
def test_dist_scripts_pass_all_arguments(tmp_path, name, arguments, expected):
    done = run(
        ROOT / 'tools' / name,
        *arguments,
        cwd=tmp_path,
        env=dict(
            PYTHON=print_arguments(tmp_path / 'python'), NNODES='4', NODE_RANK='3', MASTER_ADDR='host', PORT='12345'
        ),
    )
    lines = [line.removeprefix(f'{ROOT}/tools/') for line in done.stdout.splitlines()]
    assert lines[:2] == ['-m', 'torch.distributed.run']
    assert lines[2:7] == [
        '--nnodes=4',
        '--node-rank=3',
        '--master-addr=host',
        '--master-port=12345',
        '--nproc-per-node=8',
    ]
    assert lines[7:] == expected


@pytest.mark.parametrize('given, expected', [({}, '300'), (dict(TORCH_ELASTIC_SHUTDOWN_TIMEOUT='90'), '90')])
def test_torchrun_waits_until_its_ranks_have_saved(tmp_path, monkeypatch, given, expected):
    monkeypatch.delenv('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', raising=False)
    (tmp_path / 'python').write_text('#!/usr/bin/env bash\necho "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT"\n')
    (tmp_path / 'python').chmod(0o755)
    environment = dict(given, PYTHON=str(tmp_path / 'python'))
    assert run(ROOT / 'tools' / 'dist_train.sh', 'c.py', '8', env=environment).stdout == f'{expected}\n'


def test_machines_without_a_rank_use_rendezvous(tmp_path):
    done = run(
        ROOT / 'tools' / 'dist_train.sh',
        'c.py',
        '8',
        cwd=tmp_path,
        env=dict(PYTHON=print_arguments(tmp_path / 'python'), NNODES='4', MASTER_ADDR='host', RDZV_ID='7'),
    )
    assert done.stdout.splitlines()[2:7] == [
        '--nnodes=4',
        '--rdzv-backend=c10d',
        '--rdzv-endpoint=host:29500',
        '--rdzv-id=7',
        '--nproc-per-node=8',
    ]


@pytest.mark.parametrize(
    'name, arguments, expected',
    [
        (
            'slurm_train.sh',
            ['part', 'job', 'c.py', '--cfg-options', 'a=b c'],
            ['train.py', 'c.py', '--launcher', 'slurm', '--cfg-options', 'a=b c'],
        ),
        (
            'slurm_test.sh',
            ['part', 'job', 'c.py', 'w.pth', '--tta'],
            ['test.py', 'c.py', 'w.pth', '--launcher', 'slurm', '--tta'],
        ),
    ],
)
def test_slurm_scripts_pass_all_arguments(tmp_path, name, arguments, expected):
    print_arguments(tmp_path / 'srun')
    done = run(
        ROOT / 'tools' / name,
        *arguments,
        cwd=tmp_path,
        env=dict(PATH=f'{tmp_path}{os.pathsep}{os.environ["PATH"]}', GPUS='16', SRUN_ARGS='--quiet --time=1'),
    )
    lines = [line.removeprefix(f'{ROOT}/tools/') for line in done.stdout.splitlines()]
    assert lines[:2] == ['--partition=part', '--job-name=job']
    assert {'--ntasks=16', '--ntasks-per-node=8', '--gres=gpu:8', '--quiet', '--time=1'} <= set(lines)
    assert lines[-len(expected) :] == expected


def test_scripts_without_arguments_print_their_usage():
    for name in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'):
        done = run(ROOT / 'tools' / name)
        assert done.returncode == 2 and f'tools/{name}' in done.stderr
