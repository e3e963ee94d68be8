"""Weight files, read by the loader of this project and loaded into a tiny model."""

import io
import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from fuzzing import Attempt, accepted, cut, damage, either, junk, refused
from mmengine.runner import CheckpointLoader
from safetensors.torch import save
from torch import nn

from dit_sam.utils import load_strictly

PTH, SAFE = 'weights.pth', 'weights.safetensors'


def small() -> nn.Module:
    """A tiny model with every kind of weight: linear, convolution, norm with buffers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Conv2d(2, 3, 1), nn.BatchNorm1d(4))


def as_pth(content: Any, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def load(folder: Path, name: str, data: bytes, model: nn.Module | None = None) -> nn.Module:
    """Read and load a file; a model that refuses it stays unchanged, and nothing in the file is run."""
    path, model = folder / name, model or small()
    path.write_bytes(data)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        load_strictly(model, CheckpointLoader.load_checkpoint(str(path), map_location='cpu'), str(path))
    except Exception:
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        raise
    finally:
        assert not (folder / 'trace').exists(), 'something of the file was run'
    assert all(value.isfinite().all() for value in model.state_dict().values())
    return model


def refuse(folder: Path, name: str, data: bytes, *names: str) -> Attempt:
    return Attempt(lambda: load(folder, name, data), (name, *names))


@accepted(
    'checkpoints', 'bare or wrapped weights, with or without `module.`, old and new format, safetensors', 'the weights'
)
def whole(rng: Random, folder: Path) -> Attempt:
    state = {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in small().state_dict().items()
    }
    named = {rng.choice(['', 'module.']) + key: value for key, value in state.items()}
    wrapped = rng.choice([named, dict(state_dict=named, meta=dict(epoch=1), optimizer={}), dict(model=named)])
    name, data = rng.choice([(PTH, as_pth(wrapped)), (PTH, as_pth(wrapped, old=True)), (SAFE, save(named))])

    def run() -> None:
        loaded = load(folder, name, data).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in state.items())

    return Attempt(run)


@accepted('checkpoints', 'weights of 16, 64 and (two kinds of) 8 bits', 'the same numbers in float32')
def other_precision(rng: Random, folder: Path) -> Attempt:
    kind = rng.choice([torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2])
    state = {key: value.to(kind) if value.is_floating_point() else value for key, value in small().state_dict().items()}
    name, data = rng.choice([(PTH, as_pth(state)), (SAFE, save(state))])

    def run() -> None:
        loaded = load(folder, name, data).state_dict()
        assert all(torch.equal(loaded[key], value.to(loaded[key].dtype)) for key, value in state.items())

    return Attempt(run)


@refused('checkpoints', 'integer, boolean, complex, sparse or quantized weights', 'file, weight, both types')
def other_type(rng: Random, folder: Path) -> Attempt:
    state = small().state_dict()
    key = rng.choice([key for key, value in state.items() if value.is_floating_point()])
    kinds = [torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64, 'sparse', 'quantized']
    kind = rng.choice(kinds)
    if kind == 'sparse':
        state[key] = state[key].to_sparse()
    elif kind == 'quantized':
        state[key] = torch.quantize_per_tensor(state[key], 0.1, 0, torch.qint8)
    else:
        state[key] = state[key].to(kind)
    if kind in kinds[:4] and rng.random() < 0.5:
        return refuse(folder, SAFE, save(state), key)
    # torch itself does not read a quantized tensor in this mode, and names the file alone.
    return refuse(folder, PTH, as_pth(state), *([] if kind == 'quantized' else [key]))


@refused('checkpoints', 'NaN or infinity among the weights', 'file, weight')
def not_finite(rng: Random, folder: Path) -> Attempt:
    state = small().state_dict()
    key = rng.choice([key for key, value in state.items() if value.is_floating_point()])
    value = state[key].to(rng.choice([torch.float32, torch.float16, torch.bfloat16])).flatten()
    value[rng.randrange(len(value))] = rng.choice([float('nan'), float('inf'), -float('inf')])
    state[key] = value.view(state[key].shape)
    name, data = rng.choice([(PTH, as_pth(state)), (SAFE, save(state))])
    return refuse(folder, name, data, key)


@refused('checkpoints', 'missing or unknown weights, or a wrong shape', 'file, weight, both shapes')
def other_weights(rng: Random, folder: Path) -> Attempt:
    state = dict(small().state_dict())
    key, how = rng.choice(list(state)), rng.choice(['missing', 'unknown', 'shape', 'renamed'])
    if how == 'shape':
        state[key] = torch.zeros(*state[key].shape, rng.randint(2, 3)) if rng.random() < 0.5 else torch.zeros(7, 7)
    elif how == 'unknown':
        state['zebra'] = torch.zeros(1)
        key = 'zebra'
    else:
        value = state.pop(key)
        state |= {f'old.{key}': value} if how == 'renamed' else {}
    name, data = rng.choice([(PTH, as_pth(state)), (SAFE, save(state))])
    return refuse(folder, name, data, key)


@refused('checkpoints', 'files without weights: numbers, lists, strings, empty dicts, only an optimizer', 'file')
def no_weights(rng: Random, folder: Path) -> Attempt:
    content = rng.choice(
        [
            {},
            [],
            1,
            'x',
            None,
            b'x',
            dict(epoch=3),
            dict(state_dict={}),
            dict(state_dict=[1]),
            {1: torch.zeros(1)},
            dict(state_dict=dict(a=1)),
            torch.zeros(3),
            [torch.zeros(3)],
            dict(model='x'),
            dict(state_dict=None),
            dict(optimizer=dict(lr=0.1), meta={}),
            junk(rng),
        ]
    )
    return refuse(folder, PTH, as_pth(content, old=rng.random() < 0.5))


@refused('checkpoints', '.pth (new and old format) and .safetensors truncated at any byte', 'file')
def cut_file(rng: Random, folder: Path) -> Attempt:
    # torch looks for the end of larger files in another way.
    state = dict(small().state_dict(), more=torch.zeros(rng.choice([1, 9000, 40000])))
    name, data = rng.choice([(PTH, as_pth(state)), (PTH, as_pth(state, old=True)), (SAFE, save(state))])
    return refuse(folder, name, cut(rng, data))


@either(
    'checkpoints',
    'the same with changed, removed and added bytes',
    'finite weights with the right names and shapes, or file',
)
def damaged_file(rng: Random, folder: Path) -> Attempt:
    state = small().state_dict()
    name, data = rng.choice([(PTH, as_pth(state)), (PTH, as_pth(state, old=True)), (SAFE, save(state))])
    return refuse(folder, name, damage(rng, data))


@refused('checkpoints', 'other files: empty, HTML, zeros, noise, pictures, the other format', 'file')
def other_files(rng: Random, folder: Path) -> Attempt:
    state = small().state_dict()
    name, other = rng.choice([(PTH, save(state)), (SAFE, as_pth(state))])
    data = rng.choice(
        [
            b'',
            b'<html>404</html>',
            bytes(1000),
            rng.randbytes(1000),
            b'\x89PNG\r\n\x1a\n',
            b'PK\x03\x04',
            b'\x80\x02.',
            b'PK\x05\x06' + bytes(18),
            b'version https://git-lfs.github.com/spec/v1\n',
            other,
        ]
    )
    return refuse(folder, name, data)


@refused('checkpoints', 'not files: folders, and names that do not exist', 'file')
def no_files(rng: Random, folder: Path) -> Attempt:
    (folder / 'folder.pth').mkdir(exist_ok=True)
    name = rng.choice(['folder.pth', 'none.pth', 'none.safetensors', 'none', 'a/b.pth', '\x00.pth', 'x' * 300])
    return Attempt(lambda: CheckpointLoader.load_checkpoint(str(folder / name), map_location='cpu'), (name[:200],))


@refused('checkpoints', "unknown names of mmengine's model catalogs, and storage addresses", 'name')
def names(rng: Random, folder: Path) -> Attempt:
    name = rng.choice(
        [
            'torchvision://resnet5000',
            'modelzoo://x',
            'open-mmlab://resnet50_v1',
            'openmmlab://no/such',
            'mmcls://x',
            's3://bucket/a.pth',
            'mine:s3://bucket/a.pth',
            'petrel://a.pth',
            'pavi://x',
            'torchvision://',
            'ftp://x/a.pth',
        ]
    )
    return Attempt(lambda: CheckpointLoader.load_checkpoint(name, map_location='cpu'), (name,))


@refused('checkpoints', 'safetensors with a wrong header: length, offsets, shapes, types', 'file')
def lying_header(rng: Random, folder: Path) -> Attempt:
    data = save(small().state_dict())
    size = int.from_bytes(data[:8], 'little')
    header = json.loads(data[8 : 8 + size])
    key, wrong = rng.choice(list(header)), rng.choice(['length', 'offsets', 'shape', 'dtype'])
    if wrong == 'offsets':
        header[key]['data_offsets'][rng.randrange(2)] += rng.choice([-1, 1, 4, 2**40, 2**63])
    elif wrong == 'shape':
        header[key]['shape'] = rng.choice([[-1], [2**62, 4], [1, *header[key]['shape'], 7], ['x'], None, [2**63]])
    elif wrong == 'dtype':
        header[key]['dtype'] = rng.choice(['F4', 'I128', '', None, 'OBJECT'])
    text = json.dumps(header).encode()
    length = rng.choice([0, 2**63, 2**40, size - 1, 10**8 + 1]) if wrong == 'length' else len(text)
    return refuse(folder, SAFE, length.to_bytes(8, 'little') + text + data[8 + size :])
