"""Checkpoints that try to run code or to reach beyond their memory."""

import io
import pickle
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import torch
from forms_checkpoints import PTH, SAFE, as_pth, load, refuse, small
from forms_pickles import HOSTILE
from fuzzing import Attempt, refused
from safetensors.torch import save
from subjects import inferencer


class Call:
    """Unpickling it calls a function with arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def hostile_pickle(rng: Random, trace: str) -> bytes:
    """A pickle that calls something, by one of five instructions."""
    module, name = rng.choice(
        HOSTILE
        + [
            ('torch', 'load'),
            ('torch.serialization', 'load'),
            ('torch', 'hub.load'),
            ('torch._utils', '_rebuild_tensor'),
            ('numpy.core.multiarray', 'scalar'),
        ]
    )
    argument = b'(X' + len(trace).to_bytes(4, 'little') + trace.encode() + b't'
    by_name = f'c{module}\n{name}\n'.encode()
    call = rng.choice(
        [
            by_name + argument + b'R',
            by_name + argument + b'\x81',
            by_name + argument + b'b',
            b'(' + by_name + argument[1:-1] + b'o',
            f'(S{trace!r}\ni{module}\n{name}\n'.encode(),
        ]
    )
    return b'\x80\x02' + rng.choice([call, b'}' + b'X\x01\x00\x00\x00a' + call + b's']) + b'.'


def in_zip(data: bytes) -> bytes:
    """A pickle as the new format has it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('a/data.pkl', data)
        archive.writestr('a/version', '3\n')
        archive.writestr('a/byteorder', 'little')
    return buffer.getvalue()


@refused(
    'checkpoints',
    'pickles that call something: 22 functions, 5 ways, bare and in both formats',
    'file; nothing in it is run',
)
def hostile(rng: Random, folder: Path) -> Attempt:
    trace = f'touch {folder}/trace'
    evil = hostile_pickle(rng, trace)
    data = rng.choice(
        [
            evil,
            in_zip(evil),
            as_pth(dict(small().state_dict(), x=Call(open, f'{folder}/trace', 'w'))),
            as_pth(Call(exec, f'open("{folder}/trace", "w")'), old=True),
            pickle.dumps(Call(eval, '1'), protocol=rng.randint(0, 5)),
        ]
    )
    return refuse(folder, PTH, data)


@refused('checkpoints', 'random pickle instructions, bare and in the new format', 'file; nothing in it is run')
def opcodes(rng: Random, folder: Path) -> Attempt:
    codes = [
        getattr(pickle, name)
        for name in dir(pickle)
        if name.isupper() and isinstance(getattr(pickle, name), bytes) and len(getattr(pickle, name)) == 1
    ]
    known = [
        b'ctorch._utils\n_rebuild_tensor_v2\n',
        b'ccollections\nOrderedDict\n',
        b'cos\nsystem\n',
        b'K\x01',
        b'(',
        b't',
        b'R',
        b'}',
        b']',
        b'X\x01\x00\x00\x00a',
        b'cbuiltins\nbytearray\n',
        b'J\xff\xff\xff\x7f',
    ]
    parts = [
        rng.choice([rng.choice(codes), rng.choice(known), rng.randbytes(rng.randint(1, 5))])
        for _ in range(rng.randint(1, 60))
    ]
    data = b'\x80\x02' + b''.join(parts) + b'.'
    return refuse(folder, PTH, rng.choice([data, in_zip(data)]))


@refused('checkpoints', 'tensors beyond their memory: wrong offsets, sizes and strides', 'file')
def beyond_memory(rng: Random, folder: Path) -> Attempt:
    state = dict(small().state_dict())
    key = rng.choice(list(state))
    big = [2**16, 2**31, 2**40, 2**62, -1]
    how = rng.choice(['offset', 'size', 'stride'])
    offset, size, stride = 0, (4, 3), (3, 1)
    if how == 'offset':
        offset = rng.choice(big)
    elif how == 'size':
        size = rng.choice([(rng.choice(big), 3), (4, rng.choice(big))])
    else:
        stride = rng.choice([(rng.choice(big), 1), (3, rng.choice(big))])
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.zeros(12).untyped_storage(), dtype=torch.float32, _internal=True
    )
    state[key] = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})
    return refuse(folder, PTH, as_pth(state, old=rng.random() < 0.5))


@refused(
    'checkpoints', 'the tiny model with one of the faults above', 'file, weight; the model stays unchanged', share=0.1
)
def model(rng: Random, folder: Path) -> Attempt:
    network = inferencer().model
    state = dict(network.state_dict())
    key = rng.choice([key for key, value in state.items() if value.is_floating_point()])
    fault = rng.choice(['nan', 'int', 'missing', 'shape'])
    if fault == 'missing':
        del state[key]
    else:
        state[key] = dict(nan=state[key] * float('nan'), int=state[key].int(), shape=state[key][None])[fault]
    return Attempt(
        lambda: load(folder, SAFE, save({name: value.contiguous() for name, value in state.items()}), network),
        (SAFE, key),
    )
