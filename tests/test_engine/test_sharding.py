"""FSDP trains as DistributedDataParallel does, and writes the same checkpoints."""
import torch
from golden_loss import losses
from mmengine.config import Config
from processes import ROOT, run_ranks, run_tool
from resume_project import write_config

FSDP = ROOT / 'configs' / 'dit_sam' / 'ldit_vit-h_fsdp.py'


def write_sharded(folder, plain) -> str:
    """The small training with all that makes ldit_vit-h_fsdp.py a sharded one."""
    cfg, fsdp = Config.fromfile(plain), Config.fromfile(FSDP)
    cfg.merge_from_dict({key: fsdp[key] for key in ('runner_type', 'strategy')})
    cfg.optim_wrapper.sharded = fsdp.optim_wrapper.sharded
    cfg.custom_hooks = fsdp.custom_hooks
    path = str(folder / 'sharded.py')
    cfg.dump(path)
    return path


def test_a_sharded_training_is_the_same_training(tmp_path):
    """The gradients of the first steps are clipped, by the norm of all shards."""
    plain = write_config(tmp_path)
    options = ['--cfg-options', 'train_dataloader.batch_size=2', 'randomness.seed=7', 'log_processor.window_size=1']
    for name, config in dict(plain=str(plain), sharded=write_sharded(tmp_path, plain)).items():
        done = run_ranks(2, 'train.py', config, '--work-dir', tmp_path / name, *options)
        assert [each.returncode for each in done] == [0, 0], done[0].output[-3000:]
    torch.testing.assert_close(losses(tmp_path / 'sharded'), losses(tmp_path / 'plain'), rtol=1e-5, atol=1e-5)
    weights = [torch.load(tmp_path / name / 'epoch_2.pth', weights_only=True)['state_dict']
               for name in ('plain', 'sharded')]
    assert {name: value.shape for name, value in weights[0].items()} == {n: v.shape for n, v in weights[1].items()}

    (tmp_path / 'sharded' / 'epoch_2.pth').unlink()
    done = run_ranks(2, 'train.py', tmp_path / 'sharded.py', '--work-dir', tmp_path / 'sharded', '--resume', *options)
    assert [each.returncode for each in done] == [0, 0], done[0].output[-3000:]
    resumed = torch.load(tmp_path / 'sharded' / 'epoch_2.pth', weights_only=True)['state_dict']
    torch.testing.assert_close(resumed, weights[1], rtol=0, atol=0)
    done = run_tool('test.py', plain, tmp_path / 'sharded' / 'epoch_2.pth', '--work-dir', tmp_path / 'test',
                    '--cfg-options', f'test_dataloader.dataset.data_root={tmp_path}/data/')
    assert done.returncode == 0, done.output[-3000:]

    # Weights of another model end all ranks, though rank 0 alone has the whole ones to compare with.
    weights[1].popitem()
    torch.save(weights[1], tmp_path / 'other.pth')
    for done in run_ranks(2, 'train.py', tmp_path / 'sharded.py', '--work-dir', tmp_path / 'other', *options,
                          f'load_from={tmp_path}/other.pth'):
        assert done.returncode == 1 and 'Traceback' not in done.output
        assert 'error: the checkpoint and the config belong to different models' in done.output.splitlines()[-1]
