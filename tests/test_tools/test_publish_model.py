"""Weights for sharing, out of training checkpoints."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from converters import convert, save, untouched
from mmengine.config import Config
from processes import call_tool
from safetensors import safe_open
from safetensors.torch import load_file

from dit_sam.apis import DEFAULT_CONFIG, ReferringInferencer


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


def test_the_config_in_a_checkpoint_runs_nothing(folder, error_of):
    trace = folder / 'trace'
    model = dict(type='os.system', command=f'touch {trace}')
    path = save(folder, dict(state_dict=dict(a=torch.ones(1)), meta=dict(cfg=f'model = {model}')))
    for out in (folder / 'a.safetensors', folder / 'new'):
        line = error_of(path, out, '--merge-lora')
        assert "model.type='os.system' is not the name of a registered part; name the config of the training" in line
    assert not trace.exists() and untouched(folder, 'theirs.pth')


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


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """A checkpoint as tools/train.py writes it, with the scores of its validation."""
    torch.manual_seed(0)
    cfg = Config.fromfile(DEFAULT_CONFIG)
    cfg.work_dir = 'work_dirs/mine'
    model = ReferringInferencer(cfg, device='cpu').model
    checkpoint = dict(
        state_dict=model.state_dict(),
        meta=dict(cfg=cfg.pretty_text, epoch=2, iter=7),
        message_hub=dict(runtime_info=dict(scores={'mIoU': 79.5, 'place/mIoU': 70.0, 'epoch': 2})),
    )
    return save(tmp_path_factory.mktemp('trained'), checkpoint, 'epoch_2.pth')


def test_a_folder_to_share(folder, trained, capsys):
    convert('publish_model', trained, folder / 'mine', '--license', 'cc-by-4.0')
    assert 'mine: open it by ReferringInferencer.from_pretrained(' in capsys.readouterr().out
    opened = ReferringInferencer.from_pretrained(folder / 'mine', device='cpu').model.state_dict()
    expected = torch.load(trained)['state_dict']
    assert all(torch.equal(opened[name], value) for name, value in expected.items())
    card = (folder / 'mine' / 'README.md').read_text()
    assert yaml.safe_load(card.split('---')[1])['license'] == 'cc-by-4.0'
    for line in ('config: mine', 'data: shapes train', 'epochs: 2', 'Data: shapes val. Protocol: `original`'):
        assert line in card
    assert '| mIoU | 79.50 |' in card and '| place/mIoU | 70.00 |' in card


def test_a_model_goes_to_the_hub_and_comes_back(folder, trained, hub, capsys):
    convert('publish_model', trained, '--hub', 'me/mine', '--license', 'other', '--half', '--private')
    (commit,) = hub.repositories['me/mine'].commits
    assert f'me/mine, revision {commit}: ' in capsys.readouterr().out
    # Weights as a large file, the others within the commit.
    assert len(hub.stored) == 1 and len(hub.repositories['me/mine'].commits[commit]) == 5
    assert hub.repositories['me/mine'].private
    opened = ReferringInferencer.from_pretrained(f'me/mine@{commit}', device='cpu').model.state_dict()
    expected = torch.load(trained)['state_dict']
    assert all(torch.equal(opened[name], value.half().float()) for name, value in expected.items())
    assert "from_pretrained('me/mine')" in hub.repositories['me/mine'].commits[commit]['README.md'].decode()
    # Again, from the repository's own weights by name, which a tool takes as it takes a file.
    config = ('--config', DEFAULT_CONFIG)
    convert('publish_model', 'hf://me/mine/model.safetensors', folder / 'again', *config, '--license', 'other')
    stored = load_file(folder / 'again' / 'model.safetensors')
    assert all(torch.equal(value, expected[name].half()) for name, value in stored.items())


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--hub', 'mine', '--license', 'mit'], "'mine' is not a repository of the hub: give user/name"),
        (['--hub', 'me/mine@v1', '--license', 'mit'], 'give user/name, without a revision'),
        (['.'], '. exists and is not an empty folder'),
        (['new', '--merge-lora'], 'has no LoRA: leave out --merge-lora'),
    ],
)
def test_unshareable_requests_are_one_line_errors(folder, trained, monkeypatch, error_of, arguments, message):
    monkeypatch.chdir(folder)
    (folder / 'there').touch()
    assert message in error_of(trained, *arguments)
    assert untouched(folder, 'there')


def test_a_refused_upload_is_one_line(trained, hub, monkeypatch, error_of):
    monkeypatch.setenv('HF_TOKEN', 'hf_of_another')
    assert 'log in with `hf auth login`' in error_of(trained, '--hub', 'me/mine', '--license', 'mit')
    assert not hub.repositories


@pytest.mark.parametrize(
    'arguments', [[], ['--hub', 'me/mine'], ['a.safetensors', '--license', 'mit'], ['new', '--private'], ['a.pth']]
)
def test_wrong_options_are_usage_errors(trained, arguments):
    assert call_tool('model_converters/publish_model.py', trained, *arguments) == 2
