"""Weights for sharing, out of training checkpoints."""

from collections.abc import Callable

import pytest
import torch
from converters import convert, save, untouched
from safetensors import safe_open


@pytest.fixture
def error_of(error_of) -> Callable:
    """`error_of(*arguments)` returns the last line of the tool, which must fail."""
    return lambda *arguments: error_of('model_converters/publish_model.py', *arguments)


def test_weights_for_sharing(folder, error_of, capsys):
    # As `SafeCheckpointHook` stores the scores.
    checkpoint = dict(
        state_dict=dict(a=torch.ones(3), ids=torch.arange(3)),
        meta=dict(cfg='x = 1', epoch=2, iter=7),
        message_hub=dict(runtime_info=dict(scores=dict(mIoU=79.5, epoch=2))),
        optimizer=dict(),
    )
    convert('publish_model', save(folder, checkpoint), folder / 'new' / 'a.safetensors', '--half')
    with safe_open(folder / 'new' / 'a.safetensors', 'pt') as file:
        assert file.get_tensor('a').dtype == torch.float16 and file.get_tensor('ids').dtype == torch.int64
        kept = dict(config='x = 1', epoch='2', iter='7', scores='{"mIoU": 79.5}')
        assert kept.items() <= file.metadata().items()
    assert 'a.safetensors: 6 weights, 0.00 MiB' in capsys.readouterr().out
    assert 'is the file to read too' in error_of(*[folder / 'new' / 'a.safetensors'] * 2)


@pytest.mark.parametrize(
    'checkpoint, options, message',
    [
        ([1], [], 'theirs.pth has no state_dict: name a checkpoint written by tools/train.py'),
        (dict(state_dict=dict()), [], 'theirs.pth holds no weights'),
        (dict(state_dict=dict(a=1)), [], 'theirs.pth holds no weights'),
        (dict(state_dict=dict(a=torch.ones(1))), ['--merge-lora'], 'has no config inside, which --merge-lora needs'),
        (
            dict(state_dict=dict(a=torch.ones(1)), meta=dict(cfg='x = (')),
            ['--merge-lora'],
            "theirs.pth cannot be read ('(' was never closed",
        ),
        (dict(state_dict=dict(a=torch.ones(1))), ['--config', 'none.py'], 'config none.py not found'),
    ],
)
def test_unpublishable_checkpoints_are_one_line_errors(folder, error_of, checkpoint, options, message):
    path = save(folder, checkpoint)
    assert message in error_of(path, folder / 'a.safetensors', *options)
    assert untouched(folder, 'theirs.pth')


def test_unmerged_lora_is_reported(folder, capsys):
    apart = save(folder, dict(state_dict={'a.lora_A.weight': torch.ones(1)}))
    convert('publish_model', apart, folder / 'a.safetensors')
    assert capsys.readouterr().out.splitlines()[-1].endswith('--merge-lora merges it into them')
