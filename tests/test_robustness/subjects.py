"""The code that reads the inputs: data sets in temporary files, and a tiny model."""

import json
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask

import dit_sam  # noqa: F401  (registers everything)
from dit_sam.apis import ReferringInferencer
from dit_sam.datasets import RefCOCODataset

init_default_scope('mmseg')
CONFIG = str(Path(__file__).parents[2] / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')
INSTANCES, REFS = 'instances.json', 'refs(unc).p'
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMask'), dict(type='PackReferringInputs')]


def reference(ref_id: int = 1, ann_id: Any = 7, image_id: int = 3, split: str = 'val', text: str = 'the box') -> dict:
    return dict(
        ref_id=ref_id,
        ann_id=ann_id,
        image_id=image_id,
        category_id=1,
        split=split,
        sentences=[dict(sent_id=10 * ref_id, sent=text)],
    )


def content(segmentation: Any, height: int, width: int, name: str = 'a.png') -> dict:
    """Instances: one image and one annotation."""
    return dict(
        images=[dict(id=3, file_name=name, height=height, width=width)],
        annotations=[dict(id=7, image_id=3, category_id=1, iscrowd=0, segmentation=segmentation)],
    )


GOOD = content([[2, 2, 9, 2, 9, 8, 2, 8]], 10, 12)


def write_set(folder: Path, instances: Any, refs: Any) -> None:
    (folder / INSTANCES).write_text(json.dumps(instances), encoding='utf-8')
    (folder / REFS).write_bytes(pickle.dumps(refs, protocol=2))


def open_set(folder: Path, kind: type = RefCOCODataset, refs: str = REFS, **kwargs: Any) -> RefCOCODataset:
    return kind(str(folder), INSTANCES, refs, split='val', data_prefix=dict(img_path=''), test_mode=True, **kwargs)


def read_all(dataset: Any) -> list[dict]:
    """All items, each with a mask of zeros and ones of the size of its image, as `mask`."""
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    for item in items:
        item['mask'] = coco_mask.decode(item['segmentation'])
        assert item['mask'].shape == (item['height'], item['width'])
        assert item['mask'].max() <= 1
        assert item['text'].strip()
    return items


def mask_of(folder: Path, segmentation: Any, height: int, width: int) -> np.ndarray:
    """The mask that RefCOCODataset has of a segmentation."""
    write_set(folder, content(segmentation, height, width), [reference()])
    (item,) = read_all(open_set(folder))
    return item['mask']


@lru_cache(maxsize=1)
def inferencer() -> ReferringInferencer:
    """A tiny model of random weights whose masks are neither empty nor full."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(
        {
            'model.text_encoder.model.num_hidden_layers': 1,
            'model.decode_head.depth': 1,
            'model.data_preprocessor.size': (48, 48),
        }
    )
    cfg.test_dataloader.dataset.pipeline[1].scale = (48, 48)
    cfg.model.backbone.arch = dict(embed_dims=32, depth=2, num_heads=2, global_attn_indexes=(1,))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = ReferringInferencer(cfg, device='cpu', show_progress=False)
    for parameter in made.model.parameters():
        parameter.data.normal_(std=0.3)
    return made
