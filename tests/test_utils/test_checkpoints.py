"""Checkpoints from files, by name and from servers."""

import json
import multiprocessing
import pickle
import socket
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from hostile import Hostile
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file
from torch import nn

from dit_sam.mmengine_extras.checkpoint_io import runners_map_checkpoints
from dit_sam.utils import CheckpointError, checkpoint_sources
from dit_sam.utils.checkpoints import mapped_files


def read(path):
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


def one_line(error) -> str:
    message = str(error.value)
    assert '\n' not in message
    return message


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Serve tmp_path by HTTP; torch's cache of downloads is a folder in it."""

    class Silent(SimpleHTTPRequestHandler):
        log_message = lambda *args: None  # noqa: E731

    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    server = HTTPServer(('127.0.0.1', 0), partial(Silent, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_files_of_one_name_at_two_addresses_are_two(serve, tmp_path):
    for name, value in (('a', 0.0), ('b', 1.0)):
        (tmp_path / name).mkdir()
        torch.save(dict(weight=torch.full((2,), value)), tmp_path / name / 'model.pth')
    for name, value in (('a', 0.0), ('b', 1.0), ('a', 0.0)):
        assert CheckpointLoader.load_checkpoint(f'{serve}/{name}/model.pth')['weight'].tolist() == [value] * 2


def test_safetensors_loads_into_a_model_with_its_metadata(tmp_path):
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    path = str(tmp_path / 'weights.safetensors')
    save_file(source.state_dict(), path, metadata=dict(mIoU='90.1'))
    checkpoint = load_checkpoint(target, path, map_location='cpu', strict=True)
    assert torch.equal(target.weight, source.weight) and torch.equal(target.bias, source.bias)
    assert checkpoint['meta'] == dict(mIoU='90.1')


def test_pth_loads_with_the_versions_of_its_modules(tmp_path):
    model = nn.BatchNorm1d(2)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=1)), tmp_path / 'a.pth')
    checkpoint = read(tmp_path / 'a.pth')
    assert checkpoint['meta'] == dict(epoch=1)
    assert checkpoint['state_dict']._metadata['']['version'] == 2


@pytest.mark.parametrize(
    'save', [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))], ids=['torch.save', 'pickle']
)
def test_hostile_file_is_refused_and_nothing_runs(tmp_path, save, monkeypatch):
    # This variable turns safe loading off unless it is requested explicitly.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    trace = tmp_path / 'was_here'
    save(dict(state_dict=dict(), extra=Hostile(trace)), tmp_path / 'hostile.pth')
    with pytest.raises(CheckpointError) as error:
        read(tmp_path / 'hostile.pth')
    assert 'hostile.pth' in one_line(error)
    assert not trace.exists()


def test_refusal_names_the_object_and_the_remedy(tmp_path):
    torch.save(dict(hub=Hostile(tmp_path / 'trace')), tmp_path / 'old.pth')
    with pytest.raises(CheckpointError) as error:
        read(tmp_path / 'old.pth')
    # Since Python 3.12 `open` names another module.
    assert f"holds '{open.__module__}.open'" in one_line(error)
    assert 'safetensors' in one_line(error)


@pytest.mark.parametrize('name', ['empty.pth', 'text.pth', 'cut.pth', 'empty.safetensors', 'text.safetensors'])
def test_damaged_file_is_named(tmp_path, name):
    torch.save(dict(weight=torch.rand(100)), tmp_path / 'whole.pth')
    content = dict(empty=b'', text=b'<html>404</html>', cut=(tmp_path / 'whole.pth').read_bytes()[:-100])
    (tmp_path / name).write_bytes(content[name.split('.')[0]])
    with pytest.raises(CheckpointError, match='is damaged or not a') as error:
        read(tmp_path / name)
    assert name in one_line(error)


@pytest.mark.parametrize('numbers', [100, 4000, 25000])
def test_a_file_that_is_cut_off_anywhere_is_named(tmp_path, numbers):
    """torch raises errors of many types, also that of a system call."""
    torch.save({f'layer_{i}': torch.ones(numbers // 5) for i in range(5)}, tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    for part in range(1, 24):
        (tmp_path / 'cut.pth').write_bytes(whole[: len(whole) * part // 24])
        with pytest.raises(CheckpointError, match='cut.pth is damaged or not a checkpoint'):
            read(tmp_path / 'cut.pth')


def test_a_damaged_record_header_is_named(tmp_path):
    """torch does not check it in a mapped file, which would give wrong numbers."""
    path = tmp_path / 'a.pth'
    torch.save(dict(weight=torch.arange(9000.0)), path)
    with ZipFile(path) as file:
        start = file.getinfo('a/data/0').header_offset
    with open(path, 'rb+') as file:
        file.seek(start)
        file.write(bytes(200))
    with pytest.raises(CheckpointError, match=r'a\.pth is damaged .* or remove it from its work dir') as error:
        with mapped_files():
            read(path)
    one_line(error)


def bytes_read() -> int:
    return int(Path('/proc/self/io').read_text().split()[1])


def test_a_file_can_be_read_and_overwritten(tmp_path):
    """A program that overwrites a file that it has mapped is killed by SIGBUS, so this runs in its own process."""
    torch.save(dict(weight=torch.arange(1000000.0)), tmp_path / 'a.pth')
    with runners_map_checkpoints():
        process = multiprocessing.get_context('fork').Process(target=write_over, args=(tmp_path / 'a.pth',))
        process.start()
        process.join()
    assert process.exitcode == 0
    assert read(tmp_path / 'a.pth')['weight'][-1] == 999999


def write_over(path: Path) -> None:
    torch.save(read(path), path)


def test_tensors_can_be_mapped_and_the_file_does_not_change(tmp_path):
    """Little of the four megabytes is read, although all values are available."""
    torch.save(dict(weight=torch.arange(1000000.0)), tmp_path / 'a.pth')
    before = bytes_read()
    with mapped_files():
        weight = read(tmp_path / 'a.pth')['weight']
    assert bytes_read() - before < 100_000
    assert weight.sum(dtype=torch.float64) == 499999500000
    weight += 1
    assert read(tmp_path / 'a.pth')['weight'][-1] == 999999


def test_a_file_that_cannot_be_mapped_is_read(tmp_path, monkeypatch):
    """As on some file systems; so is the format of torch before 1.6."""
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'a.pth')
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'old.pth', _use_new_zipfile_serialization=False)

    def refuse(*args):
        raise RuntimeError('unable to mmap 1088 bytes from file </a.pth>: No such device (19)')

    monkeypatch.setattr(torch.UntypedStorage, 'from_file', refuse)
    for name in ('a.pth', 'old.pth'):
        with mapped_files():
            assert read(tmp_path / name)['weight'].tolist() == [1, 1]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.safetensors not found'):
        read(tmp_path / 'nowhere.safetensors')


def test_url_is_downloaded_once_and_read_safely(tmp_path, serve):
    save_file(dict(weight=torch.ones(2)), tmp_path / 'a.safetensors')
    url = f'{serve}/a.safetensors?download=true'
    assert read(url)['state_dict']['weight'].tolist() == [1, 1]
    (tmp_path / 'a.safetensors').unlink()
    assert read(url)['state_dict']['weight'].tolist() == [1, 1]


def test_hostile_url_is_refused_and_nothing_runs(tmp_path, serve):
    torch.save(Hostile(tmp_path / 'was_here'), tmp_path / 'hostile.pth')
    with pytest.raises(CheckpointError):
        read(f'{serve}/hostile.pth')
    assert not (tmp_path / 'was_here').exists()


def test_missing_url_is_named(serve):
    with pytest.raises(CheckpointError, match='/none.pth could not be downloaded') as error:
        read(f'{serve}/none.pth')
    one_line(error)


def test_a_download_that_breaks_off_leaves_nothing_and_is_tried_again(serve, tmp_path, monkeypatch):
    torch.save(dict(weight=torch.zeros(1000)), tmp_path / 'model.pth')
    copy = SimpleHTTPRequestHandler.copyfile
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'copyfile', lambda self, source, out: out.write(source.read(500)))
    with pytest.raises(CheckpointError, match=r'model.pth could not be downloaded \(500 of \d,\d+ bytes arrived\)'):
        read(f'{serve}/model.pth')
    assert not [path for path in (tmp_path / 'hub').rglob('*') if path.is_file()]
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'copyfile', copy)
    assert len(read(f'{serve}/model.pth')['weight']) == 1000


def test_every_url_scheme_is_handled():
    loaders = {scheme: loader.__module__ for scheme, loader in CheckpointLoader._schemes.items()}
    assert set(loaders.values()) == {'dit_sam.utils.checkpoints', 'dit_sam.utils.checkpoint_sources'}, loaders


@pytest.mark.parametrize('scheme', ['open-mmlab', 'openmmlab'])
def test_a_custom_catalog_is_read_safely(tmp_path, monkeypatch, scheme):
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    (tmp_path / 'open_mmlab.json').write_text(json.dumps(dict(mine='mine.pth', hostile='hostile.pth')))
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'mine.pth')
    torch.save(Hostile(tmp_path / 'trace'), tmp_path / 'hostile.pth')
    assert CheckpointLoader.load_checkpoint(f'{scheme}://mine')['weight'].tolist() == [1, 1]
    with pytest.raises(CheckpointError, match='hostile.pth was refused'):
        CheckpointLoader.load_checkpoint(f'{scheme}://hostile')
    assert not (tmp_path / 'trace').exists()


def test_the_closest_catalog_names_are_given():
    with pytest.raises(CheckpointError, match='open-mmlab has no such name, but .*resnet50_v1c'):
        CheckpointLoader.load_checkpoint('open-mmlab://resnet50_v1x')


def test_a_silent_server_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    monkeypatch.setattr(checkpoint_sources, 'TIMEOUT', 0.2)
    with socket.create_server(('127.0.0.1', 0)) as server:
        url = f'http://127.0.0.1:{server.getsockname()[1]}/a.pth'
        with pytest.raises(CheckpointError, match='a.pth could not be downloaded .*timed out'):
            CheckpointLoader.load_checkpoint(url)
    assert socket.getdefaulttimeout() is None and not list(tmp_path.rglob('*.pth'))
