"""FSDP trains as DistributedDataParallel does, and writes the same checkpoints."""

import os
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from golden_loss import losses
from mmengine.config import Config
from processes import CONTEXT, ROOT, run_ranks, run_tool
from resume_project import write_config
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.nn.parallel import DistributedDataParallel

try:
    from torch.distributed.fsdp import fully_shard
except ImportError:  # before torch 2.6
    fully_shard = None

from dit_sam.errors import InputError
from dit_sam.mmengine_extras import GuardedOptimWrapper

FSDP = ROOT / 'configs' / 'dit_sam' / 'ldit_vit-h_fsdp.py'


def write_sharded(folder, plain) -> str:
    """The small training with the sharding settings of ldit_vit-h_fsdp.py."""
    cfg, fsdp = Config.fromfile(plain), Config.fromfile(FSDP)
    cfg.merge_from_dict({key: fsdp[key] for key in ('runner_type', 'strategy')})
    cfg.custom_hooks = fsdp.custom_hooks
    path = str(folder / 'sharded.py')
    cfg.dump(path)
    return path


def train_sharded(folder, name: str, *options) -> list:
    """The two ranks of a training with `sharded.py`."""
    return run_ranks(2, 'train.py', folder / 'sharded.py', '--work-dir', folder / name, *options)


def test_a_sharded_training_equals_an_unsharded_one(tmp_path):
    """The gradients of the first steps are clipped, by the norm of all shards."""
    plain = write_config(tmp_path)
    options = ['--cfg-options', 'train_dataloader.batch_size=2', 'randomness.seed=7', 'log_processor.window_size=1']
    write_sharded(tmp_path, plain)
    unsharded = run_ranks(2, 'train.py', plain, '--work-dir', tmp_path / 'plain', *options)
    for done in (unsharded, train_sharded(tmp_path, 'sharded', *options)):
        assert [each.returncode for each in done] == [0, 0], done[0].output[-3000:]
    torch.testing.assert_close(losses(tmp_path / 'sharded'), losses(tmp_path / 'plain'), rtol=1e-5, atol=1e-5)
    weights = [
        torch.load(tmp_path / name / 'epoch_2.pth', weights_only=True)['state_dict'] for name in ('plain', 'sharded')
    ]
    assert {name: value.shape for name, value in weights[0].items()} == {n: v.shape for n, v in weights[1].items()}

    (tmp_path / 'sharded' / 'epoch_2.pth').unlink()
    done = train_sharded(tmp_path, 'sharded', '--resume', *options)
    assert [each.returncode for each in done] == [0, 0], done[0].output[-3000:]
    resumed = torch.load(tmp_path / 'sharded' / 'epoch_2.pth', weights_only=True)['state_dict']
    torch.testing.assert_close(resumed, weights[1], rtol=0, atol=0)
    data = ['--cfg-options', f'test_dataloader.dataset.data_root={tmp_path}/data/']
    weights_file = tmp_path / 'sharded' / 'epoch_2.pth'
    done = run_tool('test.py', plain, weights_file, '--work-dir', tmp_path / 'test', *data)
    assert done.returncode == 0, done.output[-3000:]

    # Weights of another model end all ranks, although only rank 0 has the whole weights to compare.
    weights[1].popitem()
    torch.save(weights[1], tmp_path / 'other.pth')
    for done in train_sharded(tmp_path, 'other', *options, f'load_from={tmp_path}/other.pth'):
        assert done.returncode == 1 and 'Traceback' not in done.output
        assert 'error: the checkpoint and the config belong to different models' in done.output.splitlines()[-1]


def wrapped(kind: str) -> nn.Module:
    """A small model, the same each time, as four ranks may share it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 31), nn.GELU(), nn.Linear(31, 30), nn.Linear(30, 1))
    if kind in ('DDP', 'views'):
        return DistributedDataParallel(model, gradient_as_bucket_view=kind == 'views')
    options = dict(device_id=torch.device('cpu'), use_orig_params=True)
    if kind == 'HYBRID_SHARD':
        options.update(device_mesh=init_device_mesh('cpu', (2, 2), mesh_dim_names=('replicas', 'shards')))
    elif kind == 'ignored':
        return FullyShardedDataParallel(model, ignored_modules=[model[2]], **options)
    elif kind == 'nested':
        # A sharded unit, and an unsharded one inside another.
        model[0] = FullyShardedDataParallel(model[0], sharding_strategy=ShardingStrategy.NO_SHARD, **options)
        return FullyShardedDataParallel(model, **options)
    elif kind == 'inner':
        model[0] = FullyShardedDataParallel(model[0], **options)
        return model
    elif kind in ('fully_shard', 'fully_shard a part'):
        # Like the kind before, nothing averages the gradients of the other parts.
        fully_shard(model if kind == 'fully_shard' else model[0], mesh=init_device_mesh('cpu', (4,)))
        return model
    return FullyShardedDataParallel(model, sharding_strategy=ShardingStrategy[kind], **options)


KINDS = ('DDP', 'views', 'FULL_SHARD', 'SHARD_GRAD_OP', 'NO_SHARD', 'HYBRID_SHARD', 'ignored', 'nested', 'inner')
KINDS += ('fully_shard', 'fully_shard a part') if fully_shard else ()


def train_all(rank: int, folder: Path) -> None:
    """Three steps of each kind on one of four ranks, with NaN on one of them in the second; saves the results."""
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='4')
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=4)
    found = {}
    for kind in KINDS:
        model = wrapped(kind)
        wrapper = GuardedOptimWrapper(optimizer=torch.optim.Adam(model.parameters()), clip_grad=dict(max_norm=0.01))
        norms = []
        for step in range(3):
            torch.manual_seed(step)
            # All ranks have the same batch, so that gradients that are not averaged are equal too.
            batch = torch.randn(8, 30) * (float('nan') if step == 1 and rank == 3 else 1)
            with wrapper.optim_context(model):
                loss = model(batch).square().mean()
            wrapper.update_params(loss)
            norms.append(wrapper.grad_norm.item())
        with FullyShardedDataParallel.summon_full_params(model, writeback=False):
            weights = [getattr(p, 'full_tensor', lambda p=p: p)().detach().clone() for p in model.parameters()]
        found[kind] = dict(norms=norms, skipped=wrapper.skipped, weights=weights)
    model = wrapped('FULL_SHARD')
    wrong = GuardedOptimWrapper(
        optimizer=torch.optim.Adam(model.parameters()), clip_grad=dict(max_norm=1.0, norm_type=1)
    )
    with pytest.raises(InputError, match='optim_wrapper.clip_grad of gradients in shards'), wrong.optim_context(model):
        pass
    torch.save(found, folder / f'{rank}.pth')
    dist.destroy_process_group()


def test_the_norm_of_shards_and_replicas_equals_that_of_the_model(tmp_path):
    """The wrapper detects the shards; every rank skips the same step, and clips by the same norm."""
    ranks = [CONTEXT.Process(target=train_all, args=(rank, tmp_path)) for rank in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(100)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0] * 4
    found = [torch.load(tmp_path / f'{rank}.pth') for rank in range(4)]
    expected = found[0]['DDP']
    for rank in found:
        for kind, each in rank.items():
            torch.testing.assert_close(each['norms'], expected['norms'], rtol=1e-6, atol=0, equal_nan=True, msg=kind)
            assert each['skipped'] == 1
            torch.testing.assert_close(each['weights'], expected['weights'], rtol=1e-5, atol=1e-6)
        # Gradients in the buckets change nothing.
        torch.testing.assert_close(rank['views'], rank['DDP'], rtol=0, atol=0, equal_nan=True)
