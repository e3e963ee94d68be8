"""hf:// addresses: files of a hub through its cache, and one line for everything that can go wrong."""

from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint
from safetensors.torch import save
from small_hub import Repository
from torch import nn

from dit_sam.utils import CheckpointError, read_checkpoint, read_weights
from dit_sam.utils.hub import hub_file, split_address, upload_folder


@pytest.fixture
def repository(hub) -> Repository:
    """me/model with two commits; the first one is tagged v1."""
    hub.repositories['me/model'] = repository = Repository()
    for number in (1, 2):
        oid = repository.commit({'sub/a.safetensors': save(dict(weight=torch.full((1, 1), number)))})
        repository.refs.setdefault('v1', oid)
    return repository


@pytest.mark.parametrize(
    'address, parts',
    [
        ('hf://me/model/a.pth', ('me/model', 'a.pth', None)),
        ('hf://me/model@v1/sub/a.pth', ('me/model', 'sub/a.pth', 'v1')),
        ('hf://me/model@refs/pr/1/a.pth', ('me/model', 'a.pth', 'refs/pr/1')),
        ('hf://me/model@a%2Fb/a.pth', ('me/model', 'a.pth', 'a/b')),
    ],
)
def test_addresses_name_repository_file_and_revision(address, parts):
    assert split_address(address) == parts


@pytest.mark.parametrize('address', ['hf://', 'hf://me/model', 'hf://me/model@v1', 'hf://model', 'hf://me/mo del/a'])
def test_addresses_without_a_file_are_refused(address):
    with pytest.raises(CheckpointError, match='write hf://user/name/file'):
        read_checkpoint(address)


def test_every_reader_understands_hub_addresses(repository, hub):
    newest, tagged = 'hf://me/model/sub/a.safetensors', 'hf://me/model@v1/sub/a.safetensors'
    assert read_checkpoint(newest)['state_dict']['weight'] == 2 and read_weights(tagged)['weight'] == 1
    model = nn.Linear(1, 1, bias=False)
    load_checkpoint(model, tagged)  # mmengine's own, behind load_from and resume
    assert model.weight == 1
    # The second file was in the cache for the third reader.
    assert sum(request.startswith('GET /me') for request in hub.requests) == 2


def test_a_cached_file_is_used_where_the_hub_does_not_answer(repository, hub, monkeypatch):
    path = hub_file('me/model', 'sub/a.safetensors')
    hub.failure = '503'
    assert hub_file('me/model', 'sub/a.safetensors') == path
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert hub_file('me/model', 'sub/a.safetensors') == path
    with pytest.raises(CheckpointError, match='b.pth of me/model is not in the cache .*, and HF_HUB_OFFLINE is set'):
        hub_file('me/model', 'b.pth')


@pytest.mark.parametrize(
    'name, file, revision, failure, error, message',
    [
        ('me/none', 'a', None, '', FileNotFoundError, 'has no model me/none, or it is private: check the name'),
        ('me/model', 'b.pth', 'v1', '', FileNotFoundError, 'me/model@v1 has no file b.pth'),
        ('me/model', 'b.pth', 'v9', '', FileNotFoundError, "me/model has no revision 'v9': name a branch, a tag"),
        ('me/gated', 'a', None, '', CheckpointError, 'me/gated is gated: accept its terms at http'),
        ('me/model', 'sub/a.safetensors', None, '401', CheckpointError, r'denies access \(401\): log in'),
        ('me/model', 'sub/a.safetensors', None, '403', CheckpointError, r'denies access \(403\): log in'),
        ('me/model', 'sub/a.safetensors', None, '404', CheckpointError, 'answered with status 404'),
        ('me/model', 'sub/a.safetensors', None, '500', CheckpointError, 'answered with status 500'),
        ('me/model', 'sub/a.safetensors', None, 'short', CheckpointError, 'could not be downloaded'),
        ('me/model', 'sub/a.safetensors', None, 'wrong', CheckpointError, 'could not be downloaded: Consistency'),
        ('me/mo--del', 'a', None, '', CheckpointError, 'could not be downloaded: '),
        ('me/model', '../a', None, '', CheckpointError, 'could not be downloaded: '),
    ],
)
def test_failed_downloads_are_one_line_and_leave_nothing(
    repository, hub, monkeypatch, name, file, revision, failure, error, message
):
    from huggingface_hub import constants

    hub.repositories['me/gated'] = Repository(gated=True)
    monkeypatch.setenv('HF_TOKEN', 'hf_of_another')
    hub.failure = failure
    with pytest.raises(error, match=message) as caught:
        hub_file(name, file, revision)
    assert '\n' not in str(caught.value)
    assert not list(Path(constants.HF_HUB_CACHE).glob('*/blobs/*'))


def test_without_a_network_there_is_one_line(hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(CheckpointError, match='could not be downloaded: .*check the network'):
        read_checkpoint('hf://me/model/a.pth')


def test_uploads_are_refused_in_one_line(hub, tmp_path, monkeypatch):
    (tmp_path / 'a.txt').write_text('a')
    hub.failure = '403'
    with pytest.raises(CheckpointError, match=r'me/model could not be written: .* denies access \(403\)'):
        upload_folder(tmp_path, 'me/model')
    hub.failure = ''
    monkeypatch.setenv('HF_TOKEN', 'hf_of_another')
    with pytest.raises((CheckpointError, FileNotFoundError), match='log in with `hf auth login`'):
        upload_folder(tmp_path, 'me/model')
