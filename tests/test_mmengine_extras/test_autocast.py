import pytest
import torch
from mmseg.registry import OPTIM_WRAPPERS
from torch import nn

from dit_sam.errors import InputError
from dit_sam.mmengine_extras import optim_wrapper


def build(dtype='bfloat16', **kwargs):
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, OPTIM_WRAPPERS.build(dict(type='GuardedOptimWrapper', dtype=dtype, optimizer=optimizer, **kwargs))


@pytest.fixture(autouse=True)
def with_arithmetic(monkeypatch) -> None:
    """Whatever this CPU has."""
    monkeypatch.setattr(optim_wrapper, 'has_bfloat16', lambda device: True)


def test_forward_is_bfloat16_and_the_rest_float32():
    model, wrapper = build()
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(2, 4))
    assert output.dtype == torch.bfloat16
    wrapper.update_params(output.float().sum())
    assert model.weight.dtype == torch.float32
    # d(sum)/dw = 2 for two rows of ones; the step is lr * 2 = 0.2
    torch.testing.assert_close(model.weight, before - 0.2)
    assert model(torch.ones(2, 4)).dtype == torch.float32


def test_accumulation_of_gradients_works():
    model, wrapper = build(accumulative_counts=2)
    before = model.weight.detach().clone()
    for _ in range(2):
        with wrapper.optim_context(model):
            loss = model(torch.ones(2, 4)).float().sum()
        wrapper.update_params(loss)
    # Two losses, each divided by 2, are one step.
    torch.testing.assert_close(model.weight, before - 0.2)


@pytest.mark.parametrize(
    'dtype, told',
    [
        ('float16', "got 'float16'; float16 needs a loss scale: set optim_wrapper.type=AmpOptimWrapper"),
        (torch.float16, 'needs a loss scale'),
        ('int8', "must be 'bfloat16' or None, got 'int8'"),
    ],
)
def test_other_dtypes_are_refused(dtype, told):
    """float16 without a loss scale loses small gradients."""
    with pytest.raises(InputError, match=told):
        build(dtype=dtype)
