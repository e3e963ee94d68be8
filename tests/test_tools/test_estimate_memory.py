"""tools/analysis_tools/estimate_memory.py: the parts of its sum by hand, and what a real step takes."""
import json
import runpy
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmengine.config import Config

TOOL = str(Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'estimate_memory.py')
CONFIG = str(Path(__file__).parents[2] / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')


@pytest.fixture(scope='module')
def tool() -> dict:
    return runpy.run_path(TOOL)


@pytest.fixture
def cfg() -> Config:
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({'model.backbone.arch': dict(embed_dims=48, depth=2, num_heads=3, global_attn_indexes=(1, )),
                         'model.backbone.patch_size': 16})
    return cfg


def test_bytes_are_counted_while_a_tensor_lives(tool):
    with tool['LiveBytes']() as counter:
        first = torch.zeros(256)
        view = first[:10]
        second = first + 1
        assert counter.live == 2 * 1024
        del first
        assert counter.live == 2 * 1024  # the view keeps it
        del view
        assert (counter.live, counter.peak) == (1024, 2 * 1024)
        second.add_(1)
        assert counter.live == 1024


def test_weights_and_state_are_those_of_adam(tool, cfg):
    """4 bytes a weight, and 8 for the two moments of each that trains, besides a step counter of 4 bytes each."""
    parts = tool['peaks'](cfg, 96, 1, False)
    model = tool['Step'](cfg, False).model
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = sum(parameter.numel() for parameter in model.parameters())
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    assert 4 * weights <= parts['weights'] <= 4 * weights + buffers + 4096
    assert parts['state'] == 8 * sum(parameter.numel() for parameter in trainable) + 4 * len(trainable)


def test_the_peak_grows_linearly_with_the_batch(tool, cfg):
    estimate = tool['estimate'](cfg, 96, [1, 2, 5], False)
    peak = tool['peaks'](cfg, 96, 5, False)['backward']
    assert estimate['totals'][5] == pytest.approx(peak, rel=0.02)
    assert estimate['averaged'] == 0  # this config has no EMA


def test_bfloat16_and_recomputing_save_and_averaging_costs(tool, cfg):
    plain = tool['estimate'](cfg, 96, [8], False)
    assert tool['estimate'](cfg, 96, [8], True)['per_image'] < 0.8 * plain['per_image']
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
    averaged = tool['estimate'](cfg, 96, [8], False)
    assert averaged['fixed'] - plain['fixed'] == averaged['averaged'] > 0
    cfg.custom_hooks[0].device = 'cpu'
    assert tool['estimate'](cfg, 96, [8], False)['fixed'] == plain['fixed']
    cfg.model.backbone.with_cp = True
    assert tool['estimate'](cfg, 96, [8], False)['per_image'] < 0.8 * plain['per_image']


def test_a_real_step_takes_what_was_estimated(tmp_path, capsys):
    """In a process of its own. The small model takes little more than the noise of a process; hence a batch of eight."""
    arguments = [CONFIG, '--sizes', '144', '--batch-sizes', '8', '--measure', '--json', str(tmp_path / 'bytes.json')]
    with mock.patch('sys.argv', [TOOL, *arguments]):
        runpy.run_path(TOOL, run_name='__main__')
    result, = json.loads((tmp_path / 'bytes.json').read_text())
    assert result['measured'] == pytest.approx(result['totals']['8'], rel=0.15)
    assert 'measured' in capsys.readouterr().out
