"""Checkpoints by name and from servers; files are in test_checkpoints.py."""

import json
import socket

import pytest
import torch
from hostile import Hostile
from mmengine.runner.checkpoint import CheckpointLoader

from dit_sam.utils import CheckpointError, checkpoints


def test_every_scheme_is_read_here():
    loaders = {scheme: loader.__module__ for scheme, loader in CheckpointLoader._schemes.items()}
    assert set(loaders.values()) == {'dit_sam.utils.checkpoints'}, loaders


@pytest.mark.parametrize('scheme', ['open-mmlab', 'openmmlab'])
def test_a_catalogue_of_one_s_own_is_read_safely(tmp_path, monkeypatch, scheme):
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    (tmp_path / 'open_mmlab.json').write_text(json.dumps(dict(mine='mine.pth', hostile='hostile.pth')))
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'mine.pth')
    torch.save(Hostile(tmp_path / 'trace'), tmp_path / 'hostile.pth')
    assert CheckpointLoader.load_checkpoint(f'{scheme}://mine')['weight'].tolist() == [1, 1]
    with pytest.raises(CheckpointError, match='hostile.pth was refused'):
        CheckpointLoader.load_checkpoint(f'{scheme}://hostile')
    assert not (tmp_path / 'trace').exists()


def test_the_nearest_names_are_given():
    with pytest.raises(CheckpointError, match='open-mmlab has no such name, but .*resnet50_v1c'):
        CheckpointLoader.load_checkpoint('open-mmlab://resnet50_v1x')


def test_a_server_that_says_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    monkeypatch.setattr(checkpoints, 'TIMEOUT', 0.2)
    with socket.create_server(('127.0.0.1', 0)) as server:
        url = f'http://127.0.0.1:{server.getsockname()[1]}/a.pth'
        with pytest.raises(CheckpointError, match='a.pth could not be downloaded .*timed out'):
            CheckpointLoader.load_checkpoint(url)
    assert socket.getdefaulttimeout() is None and not list(tmp_path.rglob('*.pth'))
