import io
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from dit_sam.mmengine_extras.checkpoint_hook import to_plain

CONFIG = Path(__file__).parents[1] / 'toy_config.py'


def toy_runner(work_dir: Path, **changes) -> Runner:
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({'train_cfg.max_epochs': 3, 'default_hooks.checkpoint.max_keep_ckpts': -1, **changes})
    cfg.work_dir = str(work_dir)
    # Runners and message hubs are known by name: two of one name would share their history.
    cfg.experiment_name = f'{work_dir.name}_{cfg.resume}'
    return Runner.from_cfg(cfg)


def opens_safely(value) -> bool:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=True)
    return True


def test_runner_resumes_from_its_own_checkpoint_and_ends_where_it_would_have(tmp_path):
    toy_runner(tmp_path).train()
    uninterrupted = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    (tmp_path / 'epoch_3.pth').unlink()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))

    runner = toy_runner(tmp_path, resume=True)
    runner.train()
    resumed = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    assert runner.epoch == 3
    assert resumed['meta']['iter'] == uninterrupted['meta']['iter'] == 12
    assert resumed['param_schedulers'] == uninterrupted['param_schedulers']
    for part in ('state_dict', 'optimizer'):
        torch.testing.assert_close(resumed[part], uninterrupted[part], rtol=0, atol=0)
    best = torch.load(next(tmp_path.glob('best_mIoU_*.pth')), weights_only=True)
    assert isinstance(best['message_hub']['runtime_info']['best_score'], float)


def test_ema_weights_are_kept(tmp_path):
    toy_runner(tmp_path, custom_hooks=[dict(type='EMAHook')]).train()
    checkpoint = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    assert torch.is_tensor(checkpoint['ema_state_dict']['module.linear.weight'])


@pytest.mark.parametrize(
    'value, plain',
    [
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (Path('a') / 'b', 'a/b'),
        (ConfigDict(palette=np.array([0, 255])), dict(palette=[0, 255])),
        ((np.float32(0.5), [np.str_('text')]), (0.5, ['text'])),
        (OrderedDict(a={np.int32(1)}), OrderedDict(a={1})),
    ],
)
def test_values_become_plain_python(value, plain):
    result = to_plain(value)
    assert result == plain
    assert type(result) is type(plain)
    assert opens_safely(result)


def test_tensors_are_not_copied():
    tensor = torch.rand(2)
    assert to_plain(dict(a=[tensor]))['a'][0] is tensor


def test_other_objects_become_none_and_are_named(monkeypatch):
    lines = []
    monkeypatch.setattr('dit_sam.mmengine_extras.checkpoint_hook.log_warning', lines.append)
    assert to_plain(dict(a=[1, print]), 'meta') == dict(a=[1, None])
    assert len(lines) == 1
    assert lines[0].startswith('meta.a[1] is saved as None')
