"""Tests that need a GPU: `make test-cuda` on a machine with one.

Tests that are also meaningful on a CPU run there at small sizes, so that their code is tested.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from cases import build as build_encoders
from cases import inputs
from golden_loss import losses
from gpu_tables import KINDS, deviation, gradients_of, tf32
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from resume_project import write_config
from test_exact_resume import assert_same_end
from torch import nn
from walk import WORDS, batch, load

from dit_sam.structures import TextFeatures

ROOT = Path(__file__).parents[2]
gpu = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')]
DEVICES = ['cpu', pytest.param('cuda', marks=gpu)]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('case', ['ldit', 'ldit-windowed', 'edit'])
def test_sdpa_attention_against_the_textbook(case, dtype, device, monkeypatch):
    """Features and gradients of whole encoders against float64. In 16 bits, twice the textbook's error is allowed."""
    arch, size = ('tiny', 64) if device == 'cpu' else ('base', 512)
    for module in ('attention', 'attend'):
        monkeypatch.setattr(sys.modules[f'dit_sam.models.layers.{module}'], 'on_cpu', lambda _: False)
    torch.manual_seed(0)
    with torch.device(device):
        models = build_encoders(case, arch, size)
    images, text = inputs(size, 20, 2, device)
    exact = deepcopy(models['textbook']).double()
    expected = gradients_of(exact, images.double(), TextFeatures(text.tokens.double(), text.mask), 'float64', device)
    with tf32(False):
        ours, textbooks = (gradients_of(models[name], images, text, dtype, device) for name in ('ours', 'textbook'))
    assert expected.keys() == {'features', *KINDS.values()}
    for kind, right in expected.items():
        limit = 1e-5 if dtype == 'float32' else 2 * deviation(textbooks[kind], right)
        assert deviation(ours[kind], right) < limit, kind


def model_of(name: str, device: str, seed: int = 0) -> tuple[Config, nn.Module]:
    """The model of a config with random weights."""
    cfg = Config.fromfile(ROOT / 'configs' / 'dit_sam' / f'{name}.py')
    init_default_scope(cfg.default_scope)
    cfg.model.text_encoder.tokenizer = WORDS
    torch.manual_seed(seed)
    with torch.device('cpu' if 'vit-h' not in name else device):
        model = MODELS.build(cfg.model)
    return cfg, model.to(device)


@pytest.mark.parametrize(
    'name, device',
    [
        ('ldit_vit-t_shapes', 'cpu'),
        *(pytest.param(name, 'cuda', marks=gpu) for name in ('ldit_vit-b', 'edit_vit-b', 'ldit_vit-h')),
    ],
)
@pytest.mark.parametrize('precision', [None, 'bfloat16'])
def test_a_step_moves_every_weight_that_trains(name, device, precision):
    cfg, model = model_of(name, device)
    model.train()
    wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, type='GuardedOptimWrapper', dtype=precision))
    before = {key: weight.detach().clone() for key, weight in model.named_parameters() if weight.requires_grad}
    losses = model.train_step(batch(cfg, True), wrapper)
    assert torch.isfinite(losses['loss']) and wrapper.skipped == 0
    after = dict(model.named_parameters())
    # P_i and similar weights start at zero, and so do the gradients that pass through them.
    still = [key for key, weight in before.items() if torch.equal(weight, after[key])]
    assert all(key.startswith(('text_encoder.', 'backbone.instruction.text_projection')) for key in still)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_losses_equal_those_on_the_cpu():
    values = []
    for device in ('cpu', 'cuda'):
        cfg, model = model_of('ldit_vit-b', device)
        model.eval()
        torch.manual_seed(1)
        data = batch(cfg, True)
        data['inputs'] = [torch.randint(0, 256, image.shape, dtype=torch.uint8) for image in data['inputs']]
        with tf32(False), torch.no_grad():
            values.append(model.loss(**model.data_preprocessor(data, True)))
    assert {key: value.item() for key, value in values[1].items()} == pytest.approx(
        {key: value.item() for key, value in values[0].items()}, rel=1e-4
    )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize(
    'name', ['ldit_vit-b', 'edit_vit-b_static', 'edit_vit-b_frozen-both', 'ldit_vit-b_grefcoco', 'ldit_vit-b_lora']
)
@pytest.mark.parametrize('precision', [None, 'bfloat16'])
def test_a_step_does_not_wait(name, precision):
    cfg, model = model_of(name, 'cuda')
    model.train()
    wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, type='GuardedOptimWrapper', dtype=precision))
    # As with LossLogHook, which reads the norm when it is logged.
    wrapper.writes_norm = False
    data = [batch(cfg, True) for _ in range(3)]
    for each in data:
        for key in ('inputs', 'data_samples'):
            each[key] = [part.pin_memory() for part in each[key]]
    model.train_step(data[0], wrapper)
    with no_waits('cuda'):
        for each in data[1:]:
            model.train_step(each, wrapper)


@pytest.mark.parametrize('device', DEVICES)
def test_a_fixed_text_is_encoded_at_the_first_step_only(device):
    """On a GPU the other steps do not wait."""
    cfg = load('dit_sam/ldit_vit-b_upernet_ade20k.py')
    cfg.model.backbone.arch = 'tiny' if device == 'cpu' else 'base'
    cfg.model.backbone.out_indices = (-1,)
    model = MODELS.build(cfg.model.backbone).to(device).train()
    images, calls = torch.zeros(1, 3, 64, 64, device=device), []
    model.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    model(images)
    with no_waits(device):
        for _ in range(2):
            model(images)[0].mean().backward()
    assert calls == [1]


@contextmanager
def no_waits(device: str) -> Iterator[None]:
    """Waits of the CPU for a GPU are errors."""
    if device == 'cpu':
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def train(folder: Path, name: str, *options: str, ranks: int = 1, resume: bool = False, status: int = 0) -> None:
    """`tools/train.py` on the GPUs in processes of their own."""
    path = f'{ROOT / "tests"}:{ROOT / "tests" / "test_training"}'
    script = [str(ROOT / 'tools' / 'train.py')]
    starter = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={ranks}'] if ranks > 1 else []
    done = subprocess.run(
        [
            sys.executable,
            *starter,
            *script,
            str(folder / 'small.py'),
            '--work-dir',
            str(folder / name),
            *['--resume'] * resume,
            *['--launcher', 'pytorch'] * (ranks > 1),
            '--cfg-options',
            'randomness.seed=7',
            *options,
        ],
        env=dict(os.environ, PYTHONPATH=path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('gpu')
    write_config(path)
    return path


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('amp', [[], ['optim_wrapper.dtype=bfloat16']], ids=['float32', 'bfloat16'])
def test_a_resumed_training_is_bit_equal(folder, amp):
    options = ['randomness.deterministic=True', *amp]
    names = [f'{name}{len(amp)}' for name in ('whole', 'ended')]
    train(folder, names[0], *options)
    train(folder, names[1], *options, 'custom_hooks.1.step=7', status=-9)
    train(folder, names[1], *options, resume=True)
    assert_same_end(folder, names[1], names[0])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_the_hooks_of_a_training_do_not_wait(folder):
    """In the steps within an epoch; the log and the search for skipped steps wait at its end."""
    train(folder, 'waits', 'custom_hooks.1.type=NoWaitHook', 'default_hooks.logger.interval=50')


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='wants two GPUs')
def test_two_ranks_by_nccl_train_as_one_does(folder):
    """Without dropout, which every rank draws for itself."""
    options = ['model.backbone.instruction.dropout=0.', 'model.text_encoder.model.hidden_dropout_prob=0.']
    train(folder, 'one', *options)
    train(folder, 'two', *options, 'train_dataloader.batch_size=2', ranks=2)
    assert losses(folder / 'two') == pytest.approx(losses(folder / 'one'), rel=1e-3)
