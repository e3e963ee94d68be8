"""Files of weights. Refused and damaged ones are in test_checkpoints.py."""

import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from dit_sam.errors import InputError
from dit_sam.utils import CheckpointError, check_target, read_weights, save_weights

WEIGHTS = dict(a=torch.arange(3.0), b=torch.ones(2, 2).half())


def same(actual: dict, expected: dict) -> bool:
    return actual.keys() == expected.keys() and all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    'wrap',
    [
        dict,
        lambda weights: dict(state_dict=weights, epoch=3, optimizer=dict(lr=1.0)),
        lambda weights: {f'module.{name}': value for name, value in weights.items()},
    ],
    ids=['bare', 'checkpoint', 'wrapped'],
)
def test_weights_are_found_in_the_formats_of_programs(tmp_path, wrap):
    torch.save(wrap(WEIGHTS), tmp_path / 'a.pth')
    assert same(read_weights(str(tmp_path / 'a.pth')), WEIGHTS)


def test_a_checkpoint_without_weights_says_so(tmp_path):
    torch.save(dict(epoch=3), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='a.pth holds no weights'):
        read_weights(str(tmp_path / 'a.pth'))


@pytest.mark.parametrize('save, name', [(save_file, 'model.safetensors'), (torch.save, 'pytorch_model.bin')])
def test_a_folder_of_hugging_face(tmp_path, save, name):
    save(WEIGHTS, tmp_path / name)
    assert same(read_weights(str(tmp_path)), WEIGHTS)


def test_a_folder_with_shards(tmp_path):
    for name, value in WEIGHTS.items():
        save_file({name: value}, tmp_path / f'{name}.safetensors')
    index = dict(metadata={}, weight_map={name: f'{name}.safetensors' for name in WEIGHTS})
    (tmp_path / 'model.safetensors.index.json').write_text(json.dumps(index))
    assert same(read_weights(str(tmp_path)), WEIGHTS)
    (tmp_path / 'b.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='b.safetensors not found'):
        read_weights(str(tmp_path))


@pytest.mark.parametrize('content', ['{"weight_map": {', '[]', '{}'])
def test_a_damaged_index_says_so(tmp_path, content):
    (tmp_path / 'model.safetensors.index.json').write_text(content)
    with pytest.raises(InputError, match='index.json is damaged or not an index of weights: download it again'):
        read_weights(str(tmp_path))


def test_a_folder_without_weights_names_the_expected_files(tmp_path):
    with pytest.raises(InputError, match='holds no weights: it has none of model.safetensors, '):
        read_weights(str(tmp_path))


def test_safetensors_keeps_weights_and_metadata(tmp_path):
    path = tmp_path / 'new' / 'a.safetensors'
    save_weights(str(path), WEIGHTS, dict(arch='base'))
    assert same(load_file(path), WEIGHTS)
    with safe_open(path, 'pt') as file:
        assert file.metadata() == dict(format='pt', arch='base')
    assert path.stat().st_mode & 0o666 == path.parent.stat().st_mode & 0o666


def test_pth_is_a_checkpoint_with_metadata_and_bare_without(tmp_path):
    path = tmp_path / 'a.pth'
    save_weights(str(path), WEIGHTS, dict(arch='base'))
    found = torch.load(path, weights_only=True)
    assert same(found.pop('state_dict'), WEIGHTS) and found == dict(meta=dict(arch='base'))
    save_weights(str(path), WEIGHTS)
    assert same(torch.load(path, weights_only=True), WEIGHTS)


def test_tied_and_strided_weights_are_saved(tmp_path):
    layer = nn.Linear(3, 3).requires_grad_(False)
    weights = dict(a=layer.weight, b=layer.weight, c=layer.weight.t(), d=layer.bias[:2])
    save_weights(str(tmp_path / 'a.safetensors'), weights)
    assert same(load_file(tmp_path / 'a.safetensors'), weights)


@pytest.mark.parametrize('name', ['a.safetensors', 'a.pth'])
def test_a_full_disk_leaves_existing_files(tmp_path, name):
    (tmp_path / name).write_text('before')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, hard))
    try:
        with pytest.raises(InputError, match=f'{name} could not be written: .*File too large'):
            save_weights(str(tmp_path / name), dict(a=torch.zeros(10000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == 'before'


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='file/a.pth could not be written') as error:
        save_weights(str(tmp_path / 'file' / 'a.pth'), WEIGHTS)
    assert '\n' not in str(error.value)


def test_a_target_must_not_be_a_source(tmp_path):
    (tmp_path / 'a.pth').touch()
    (tmp_path / 'link.pth').symlink_to(tmp_path / 'a.pth')
    with pytest.raises(InputError, match='link.pth is the file to read too'):
        check_target(str(tmp_path / 'link.pth'), ['none.pth', str(tmp_path / 'a.pth')])
    check_target(str(Path(tmp_path, 'b.pth')), [str(tmp_path / 'a.pth')])
