"""tools/analysis_tools/estimate_memory.py: the parts of its sum by hand, and the memory of a real step."""

import runpy
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from dit_sam.errors import InputError

TOOL = str(Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'estimate_memory.py')
CONFIG = str(Path(__file__).parents[2] / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')


@pytest.fixture(scope='module')
def tool() -> dict:
    return runpy.run_path(TOOL)


@pytest.fixture
def cfg() -> Config:
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.arch = dict(embed_dims=48, depth=2, num_heads=3, global_attn_indexes=(1,))
    cfg.model.backbone.patch_size = 16
    cfg.model.text_encoder.model.num_hidden_layers = 1
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


def test_the_estimate_is_the_sum_of_its_parts(tool, cfg):
    parts, estimate = tool['peaks'](cfg, 96, 8, False), tool['estimate'](cfg, 96, [8, 16], False)
    assert estimate['fixed'] == parts['weights'] + parts['gradients'] + parts['state']
    assert estimate['totals'][8] == parts['peak'] > estimate['fixed']
    assert estimate['per_image'] == (estimate['totals'][16] - estimate['totals'][8]) // 8


def test_bfloat16_and_checkpointing_save_memory_and_averaging_costs_it(tool, cfg):

    def estimate(amp: bool = False) -> dict:
        return tool['estimate'](cfg, 96, [16], amp)

    plain = estimate()
    assert estimate(amp=True)['per_image'] < 0.8 * plain['per_image']
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
    averaged = estimate()
    assert averaged['totals'][16] - plain['totals'][16] == averaged['averaged'] > 0 == plain['averaged']
    cfg.custom_hooks[0].device = 'cpu'
    assert estimate() == plain
    cfg.model.backbone.with_cp = True
    assert estimate()['per_image'] < 0.95 * plain['per_image']


def test_the_estimate_matches_a_real_step(tool, cfg, monkeypatch):
    fake = tool['peaks'](cfg, 96, 2, False)
    monkeypatch.setitem(tool['peaks'].__globals__, 'FakeTensorMode', lambda **kwargs: nullcontext())
    real = tool['peaks'](cfg, 96, 2, False)
    assert real == pytest.approx(fake, rel=0.02)


def test_a_real_step_runs_in_its_own_process(tool, tmp_path, monkeypatch, capsys):
    """Here a program that checks its arguments."""
    program = tmp_path / 'program.py'
    program.write_text(
        'import os, sys\nassert sys.argv[1:] == ["config.py", "--real", "512", "1"]\n'
        'print("a line of a library", 8, sep="\\n")\n'
    )
    monkeypatch.setattr('sys.argv', [str(program), 'config.py'])
    assert tool['measure'](512, 1) == 8
    program.write_text('raise MemoryError("no memory left")')
    assert tool['measure'](512, 1) is None
    assert capsys.readouterr().err == 'the real step of 512 pixels failed: MemoryError: no memory left\n'


def test_bad_input_is_one_line(tool, cfg, error_of):
    assert error_of(TOOL, CONFIG, '--json', '.') == '. is a folder: name a file in it'
    cfg.model = cfg.model.backbone
    with pytest.raises(InputError, match='the model is a DITViT, not a segmentor with a backbone and a decode_head'):
        tool['Step'](cfg, False)


def test_a_table_of_gibibytes(tool):
    row = dict(size=512, fixed=2**31, per_image=2**29, totals={1: 5 * 2**29, 4: 2**32}, averaged=2**29, measured=2**31)
    lines = tool['table']([row]).splitlines()
    assert lines[1].replace('|', ' ').split() == [
        'size',
        'fixed',
        'per',
        'image',
        'batch',
        '1',
        'batch',
        '4',
        'measured',
        'estimated',
    ]
    # The real step has no averaged weights.
    assert lines[3].replace('|', ' ').split() == ['512', '2.00', '0.50', '2.50', '4.00', '2.00', '2.00']
    lines = tool['table']([dict(row, measured=None)]).splitlines()
    assert lines[3].replace('|', ' ').split() == ['512', '2.00', '0.50', '2.50', '4.00', 'failed', '2.00']


@pytest.mark.parametrize('device', ['gpu', 'cpu'])
@pytest.mark.parametrize('recompute', [False, True])
def test_a_step_leaves_no_tensors_alive(tool, cfg, device, recompute):
    cfg.model.backbone.with_cp = recompute
    with tool['attention_of'](device), tool['LiveBytes']() as counter:
        step = tool['Step'](cfg, True)
        step.backward(48, 1)
        before = counter.live
        step.backward(48, 1)
        assert counter.live == before
