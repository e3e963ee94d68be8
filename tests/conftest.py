"""Fixtures: a tiny data set in RefCOCO's format in a temporary folder, and the output of the tools."""

import json
import os
import pickle
from collections.abc import Callable, Iterator

# Before torch is imported: all tests except those of `make test-cuda` run on the CPU, even on a machine with a GPU.
if 'DIT_SAM_TEST_GPU' not in os.environ:
    os.environ['CUDA_VISIBLE_DEVICES'] = ''

# Before mmseg: with mmcv-lite, its visualizer can only be imported after dit_sam.
import dit_sam

# isort: split
import cv2
import numpy as np
import pytest
from mmengine.config import config as mmengine_config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer
from processes import call_tool
from pycocotools import mask as coco_mask
from small_hub import TOKEN, SmallHub, running_hub

# As the tools do. tests/test_importing.py is about programs that do not.
dit_sam.mmengine_extras.prepare_process()
# A large part of a short training is spent on formatting the config for its log and checkpoints.
mmengine_config.FormatCode = lambda text, **style: (text, False)

SIZES = {1: (40, 60), 2: (30, 50), 3: (36, 36)}  # height, width


@pytest.fixture(autouse=True)
def mmseg_scope() -> None:
    # mmengine names shared objects of a run by the second: two runs within a second would share a log.
    for shared in (MMLogger, MessageHub, Visualizer, SegLocalVisualizer):
        shared._instance_dict.clear()
    init_default_scope('mmseg')


@pytest.fixture
def output_of(capsys) -> Callable:
    """`output_of(tool, *arguments)` runs a program of tools/ that must succeed, and returns its output."""

    def run(tool: str, *arguments) -> str:
        capsys.readouterr()
        assert call_tool(tool, *arguments) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def error_of(capsys) -> Callable:
    """`error_of(tool, *arguments)` runs a program of tools/ that must fail, and returns its last line.

    With `alone=True` there is no other line on stderr.
    """

    def run(tool: str, *arguments, alone: bool = False) -> str:
        capsys.readouterr()
        assert call_tool(tool, *arguments) == 1
        *others, line = capsys.readouterr().err.splitlines()
        assert line.startswith('error: ') and not (alone and others)
        return line.removeprefix('error: ')

    return run


@pytest.fixture
def hub(tmp_path_factory, monkeypatch) -> Iterator[SmallHub]:
    """A hub on this machine, with an empty cache and a token; huggingface_hub reads its settings only when imported."""
    from huggingface_hub import constants

    with running_hub() as server:
        monkeypatch.setattr(constants, 'ENDPOINT', server.address)
        monkeypatch.setattr(
            constants, 'HUGGINGFACE_CO_URL_TEMPLATE', server.address + '/{repo_id}/resolve/{revision}/{filename}'
        )
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path_factory.mktemp('cache')))
        monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
        monkeypatch.setattr(constants, 'HF_HUB_DISABLE_PROGRESS_BARS', True)
        # It waits up to 23 seconds before its last try.
        monkeypatch.setattr('time.sleep', lambda seconds: None)
        monkeypatch.setenv('HF_TOKEN', TOKEN)
        yield server


def rectangle(x: int, y: int, width: int, height: int) -> list:
    """A polygon that covers the pixels x ... x + width - 1 and y ... y + height - 1."""
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def instances() -> dict:
    compressed = coco_mask.encode(np.asfortranarray(np.ones(SIZES[3], np.uint8)))
    segmentations = {
        11: [rectangle(5, 10, 20, 8)],
        12: dict(size=list(SIZES[1]), counts=[80, 40, 2280]),  # columns 2 of 60, 40 pixels each
        21: [rectangle(0, 0, 10, 10), rectangle(40, 20, 10, 10)],
        31: dict(size=list(SIZES[3]), counts=compressed['counts'].decode()),
    }
    images = [
        dict(id=key, file_name=f'COCO_train2014_{key:012d}.jpg', height=height, width=width)
        for key, (height, width) in SIZES.items()
    ]
    annotations = [
        dict(id=key, image_id=key // 10, category_id=1, iscrowd=0, segmentation=value)
        for key, value in segmentations.items()
    ]
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='thing')])


def reference(ref_id: int, ann_id: int, split: str, *sentences: str) -> dict:
    return dict(
        ref_id=ref_id,
        ann_id=ann_id,
        image_id=ann_id // 10,
        category_id=1,
        split=split,
        file_name=f'COCO_train2014_{ann_id // 10:012d}_{ann_id}.jpg',
        sent_ids=[10 * ref_id + number for number in range(len(sentences))],
        sentences=[
            dict(sent_id=10 * ref_id + number, sent=sent, raw=sent, tokens=sent.split())
            for number, sent in enumerate(sentences)
        ],
    )


def references() -> list:
    return [
        reference(1, 11, 'train', 'left box', 'the box on the left', 'wide one'),
        reference(2, 11, 'train', 'box near the bright wall'),
        reference(3, 12, 'train', 'narrow column', 'stripe'),
        reference(4, 21, 'val', 'two corners', 'both squares', 'squares'),
        reference(5, 31, 'val', 'everything'),
        reference(6, 31, 'testA', 'all of it'),
    ]


@pytest.fixture
def write_refcoco(tmp_path) -> Callable:
    """`write_refcoco(edit)` writes the set after `edit(instances, references)` and returns its root."""

    def write(edit: Callable | None = None) -> str:
        content, refs = instances(), references()
        if edit is not None:
            edit(content, refs)
        (tmp_path / 'train2014').mkdir(exist_ok=True)
        (tmp_path / 'refcoco').mkdir(exist_ok=True)
        (tmp_path / 'refcoco' / 'instances.json').write_text(json.dumps(content))
        (tmp_path / 'refcoco' / 'refs(unc).p').write_bytes(pickle.dumps(refs, protocol=2))
        for key, (height, width) in SIZES.items():
            image = np.random.default_rng(key).integers(0, 256, (height, width, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / 'train2014' / f'COCO_train2014_{key:012d}.jpg'), image)
        return str(tmp_path)

    return write
