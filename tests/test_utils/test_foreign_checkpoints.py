"""Checkpoints of other programs are read for their tensors and plain values, and nothing in them runs."""

import argparse
import os
import pathlib
import pickle
import sys
from collections import OrderedDict, defaultdict
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from processes import ROOT, call_tool
from torch import nn

from dit_sam.utils import CheckpointError, read_checkpoint, read_weights, restricted_unpickler
from dit_sam.utils.checkpoints import mapped_files
from dit_sam.utils.placeholders import Placeholder, without_placeholders


@pytest.fixture
def lab(monkeypatch) -> ModuleType:
    """The package of a lab, which is not installed where its checkpoints are read."""
    module = ModuleType('labpkg')
    module.Recipe = type('Recipe', (), dict(__module__='labpkg', __init__=lambda self: setattr(self, 'steps', 3)))
    monkeypatch.setitem(sys.modules, 'labpkg', module)
    return module


def foreign(lab: ModuleType) -> dict:
    """What mmengine's own hooks and labs put into a checkpoint."""
    weights = OrderedDict(weight=torch.arange(4.0), half=torch.ones(2, dtype=torch.bfloat16))
    weights._metadata = {'': dict(version=2)}
    meta = dict(
        epoch=3,
        score=np.float64(0.5),
        ok=np.bool_(True),
        text=np.str_('abc'),
        rows=np.arange(6).reshape(2, 3),
        columns=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        big=np.array([1, 2], '>i4'),
        words=np.array(['a', 'bb']),
        settings=ConfigDict(a=dict(b=1)),
        path=pathlib.Path('/data/coco'),
        bytes=b'xyz',
        lists=defaultdict(list, {1: [2]}),
        args=argparse.Namespace(lr=1),
        recipe=lab.Recipe(),
    )
    hub = dict(
        log_scalars=OrderedDict(loss=HistoryBuffer([1.0], [1])), runtime_info=dict(iter=7), resumed_keys=dict(iter=True)
    )
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))]).state_dict()
    return dict(state_dict=weights, meta=meta, message_hub=hub, optimizer=optimizer, steps=[lab.Recipe(), 1])


PLAIN = dict(
    epoch=3,
    score=0.5,
    ok=True,
    text='abc',
    rows=[[0, 1, 2], [3, 4, 5]],
    columns=[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
    big=[1, 2],
    words=['a', 'bb'],
    settings=dict(a=dict(b=1)),
    path='/data/coco',
    bytes=b'xyz',
    lists={1: [2]},
)


@pytest.mark.parametrize('mapped', [False, True])
@pytest.mark.parametrize(
    'settings', [dict(_use_new_zipfile_serialization=False), *(dict(pickle_protocol=n) for n in range(2, 6))]
)
def test_tensors_and_plain_values_are_read_and_objects_left_out(tmp_path, lab, monkeypatch, settings, mapped):
    said: list[str] = []
    monkeypatch.setattr('dit_sam.utils.checkpoints.log_warning', said.append)
    content = foreign(lab)
    torch.save(content, tmp_path / 'a.pth', **settings)
    monkeypatch.delitem(sys.modules, 'labpkg')
    if mapped:
        with mapped_files():
            read = read_checkpoint(str(tmp_path / 'a.pth'))
    else:
        read = read_checkpoint(str(tmp_path / 'a.pth'))
    assert read['meta'] == PLAIN
    assert read['steps'] == [None, 1]
    assert read['message_hub'] == dict(
        log_scalars=OrderedDict(), runtime_info=dict(iter=7), resumed_keys=dict(iter=True)
    )
    assert read['optimizer'] == content['optimizer']
    for name, weight in content['state_dict'].items():
        assert torch.equal(read['state_dict'][name], weight) and read['state_dict'][name].dtype == weight.dtype
    assert read['state_dict']._metadata == {'': dict(version=2)}
    (line,) = said
    assert 'nothing in them was run: labpkg.Recipe (2), ' in line and 'HistoryBuffer (1)' in line


def test_a_run_of_mmengines_own_hooks_is_resumed(tmp_path):
    cfg = Config.fromfile(ROOT / 'tests' / 'toy_config.py')
    cfg.work_dir, cfg.train_cfg.max_epochs = str(tmp_path), 1
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    Runner.from_cfg(cfg).train()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    options = ('--work-dir', str(tmp_path), '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert call_tool('train.py', str(ROOT / 'tests' / 'toy_config.py'), *options) == 0
    checkpoint = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    assert (checkpoint['meta']['epoch'], checkpoint['meta']['iter'] % 2) == (2, 0)


@pytest.mark.parametrize('key', ['state_dict', 'model'])
def test_lightnings_layout(tmp_path, lab, key):
    weights = {'module.backbone.weight': torch.ones(2), 'module.head.bias': torch.zeros(1)}
    torch.save(
        {key: weights, 'hyper_parameters': argparse.Namespace(lr=1), 'callbacks': lab.Recipe()}, tmp_path / 'a.ckpt'
    )
    assert list(read_weights(str(tmp_path / 'a.ckpt'))) == ['backbone.weight', 'head.bias']


class Call:
    """Unpickling calls the function."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple:
        return self.parts


HARM = [
    ('posix.system', lambda path: Call(os.system, f'touch {path}')),
    ('io.open', lambda path: Call(open, path, 'w')),
    ('builtins.eval', lambda path: Call(eval, f'open({path!r}, "w")')),
    ('builtins.exec', lambda path: Call(exec, f'open({path!r}, "w")')),
    ('subprocess.Popen', lambda path: Call(__import__('subprocess').Popen, ['touch', path])),
    ('builtins.__import__', lambda path: Call(__import__, 'antigravity')),
    ('str', lambda path: Call(str, 9)),
]


@pytest.mark.parametrize('name, harm', HARM, ids=[name for name, _ in HARM])
@pytest.mark.parametrize('new', [True, False])
def test_functions_of_python_are_refused(tmp_path, lab, name, harm, new):
    path = str(tmp_path / 'trace')
    torch.save([lab.Recipe(), harm(path)], tmp_path / 'a.pth', _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match='was refused and nothing in it was run') as error:
        read_checkpoint(str(tmp_path / 'a.pth'))
    assert name.split('.')[-1] in str(error.value) and '\n' not in str(error.value)
    assert not os.path.exists(path)


def test_functions_of_packages_become_placeholders(tmp_path, lab):
    """Whatever their name: nothing is imported and nothing is called."""
    path = str(tmp_path / 'trace')
    hostile = [Call(np.save, path, 1), Call(torch.save, {}, path), Call(getattr, lab.Recipe, '__doc__')]
    torch.save(dict(hostile=hostile, recipe=lab.Recipe()), tmp_path / 'a.pth')
    assert read_checkpoint(str(tmp_path / 'a.pth')) == dict(hostile=[None, None, None])
    assert not os.path.exists(path) and not os.path.exists(f'{path}.npy')


REBUILD = b'ctorch._utils\n_rebuild_tensor_v2\n'
RAW = {
    'state for a function': REBUILD + b'}(V__defaults__\nK\x01ub.',
    'slots of a function': REBUILD + b'N}(V__defaults__\nK\x01u\x86b.',
    'items of a function': REBUILD + b'K\x00K\x00s.',
    'list of a type': b'c__builtin__\nlist\nK\x00a.',
    'a type that is called': b'c__builtin__\nint\n(V9\ntR.',
    'an extension': b'\x82\x01.',
    'a nested name': b'\x80\x04\x8c\x05torch\x8c\x09hub.sys.x\x93(tR.',
}


@pytest.mark.parametrize('name', RAW)
def test_opcodes_that_only_code_needs(name, tmp_path):
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    (tmp_path / 'a.pkl').write_bytes(RAW[name])
    with open(tmp_path / 'a.pkl', 'rb') as file:
        if name == 'a nested name':
            assert isinstance(restricted_unpickler.load(file), Placeholder)
        else:
            with pytest.raises(pickle.UnpicklingError):
                restricted_unpickler.load(file)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == defaults
    assert not hasattr(torch._utils._rebuild_tensor_v2, 'anything')


def test_shared_containers_stay_shared():
    """Unfolded, these 40 levels are 2^40 lists."""
    value: list = []
    for _ in range(40):
        value = [value, value]
    plain, left_out = without_placeholders(value)
    assert plain[0] is plain[1] and not left_out


def test_arrays_without_numbers_take_no_memory(tmp_path):
    torch.save([lab_free_recipe(), np.empty((10**9, 0))], tmp_path / 'a.pth')
    assert read_checkpoint(str(tmp_path / 'a.pth')) == [None, []]


def lab_free_recipe() -> HistoryBuffer:
    """An object that `weights_only` refuses."""
    return HistoryBuffer([1.0], [1])
