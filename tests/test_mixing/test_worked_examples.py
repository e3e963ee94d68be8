"""The configs that start from one of mmseg or mmdet: they train and are scored on data in ADE20K's, Cityscapes' and
COCO's format, by the runner."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from small import ROOT, small_model
from test_docs import build_on_meta

from dit_sam.mmengine_extras.config_check import check_config

SIZE = (70, 100)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def noise(seed: int, *shape: int, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.uint8)


def ade20k(root: Path) -> str:
    for i, split in enumerate(('training', 'training', 'validation')):
        write(root / 'images' / split / f'{i}.jpg', noise(i, *SIZE, 3))
        write(root / 'annotations' / split / f'{i}.png', noise(i, *SIZE, high=151))
    return str(root)


def cityscapes(root: Path) -> str:
    for i, split in enumerate(('train', 'train', 'val')):
        write(root / 'leftImg8bit' / split / 'town' / f'town_{i}_leftImg8bit.png', noise(i, *SIZE, 3))
        write(root / 'gtFine' / split / 'town' / f'town_{i}_gtFine_labelTrainIds.png', noise(i, *SIZE, high=19))
    return str(root)


def coco(root: Path) -> str:
    CocoDataset = pytest.importorskip('mmdet.datasets').CocoDataset
    (root / 'annotations').mkdir(parents=True)
    categories = [dict(id=i, name=name) for i, name in enumerate(CocoDataset.METAINFO['classes'], 1)]
    for split, ids in (('train2017', (1, 2)), ('val2017', (3,))):
        images = [dict(id=i, file_name=f'{i:012d}.jpg', height=SIZE[0], width=SIZE[1]) for i in ids]
        annotations = [
            dict(
                id=i,
                image_id=i,
                category_id=1 + i % 2,
                iscrowd=0,
                bbox=[20, 10, 60, 50],
                area=3000,
                segmentation=[[20, 10, 80, 10, 80, 60, 20, 60]],
            )
            for i in ids
        ]
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
        for image in images:
            write(root / split / image['file_name'], noise(image['id'], *SIZE, 3))
    return str(root)


def load(name: str) -> Config:
    """The config as it is, checked as the tools check it, and built at full size."""
    path = ROOT / 'configs' / 'dit_sam' / f'{name}.py'
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    check_config(cfg, path.name)
    build_on_meta(cfg.model)
    return cfg


def run(cfg: Config, data_root: str, work_dir: Path, steps: dict) -> tuple[Runner, dict]:
    """Two steps on images of 64 × 64 at most, a checkpoint, and the scores."""
    cfg.model, cfg.work_dir = small_model(cfg), str(work_dir)
    loaders = {
        name: dict(dataset=dict(data_root=data_root), num_workers=0, persistent_workers=False)
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader')
    }
    loaders['train_dataloader']['batch_size'] = 2
    cfg.merge_from_dict(dict(loaders, train_cfg=steps))
    for transform in (*cfg.train_dataloader.dataset.pipeline, *cfg.val_dataloader.dataset.pipeline):
        transform.update({key: (64, 64) for key in ('crop_size', 'scale') if key in transform})
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner, runner.val_loop.run()


@pytest.mark.parametrize(
    'name, make', [('ldit_vit-b_upernet_ade20k', ade20k), ('ldit_vit-b_segformer_cityscapes', cityscapes)]
)
def test_mmseg_trains_and_is_scored(name: str, make: Callable, tmp_path) -> None:
    cfg = load(name)
    encoder = dict(cfg.model.backbone.text_encoder)
    runner, scores = run(cfg, make(tmp_path / 'data'), tmp_path, dict(max_iters=2, val_interval=2))
    assert encoder['frozen'] and 0 <= scores['mIoU'] <= 100
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_2.pth')
    # What is trained: all but the text encoder.
    trained = {name for group in runner.optim_wrapper.optimizer.param_groups for name in group.get('param_names', ())}
    assert not any('text_encoder' in name for name in trained)
    if 'ade20k' in name:
        rates = {
            name: group['lr'] / 1e-4
            for group in runner.optim_wrapper.optimizer.param_groups
            for name in group['param_names']
        }
        warm_up = rates['decode_head.conv_seg.weight']
        assert rates['backbone.pos_embed'] / warm_up == pytest.approx(0.65**5)  # four blocks, and the patches


def test_the_instruction_of_cityscapes_is_not_cut() -> None:
    """Every word of the classes is in BERT's vocabulary, so one token."""
    backbone = load('ldit_vit-b_segformer_cityscapes').model.backbone
    classes = backbone.text.split(', ')
    assert len(classes) == 19
    words, commas, special = len(backbone.text.replace(',', '').split()), 18, 2
    assert words + commas + special <= backbone.text_encoder.max_length


def test_mmdet_trains_and_is_scored(tmp_path) -> None:
    cfg = load('sam_vit-b_solov2_coco')
    cfg.model.mask_head.norm_cfg = dict(type='GN', num_groups=32)  # the default, there to be divided
    # An untrained model has no confident detections.
    cfg.model.test_cfg.update(score_thr=0.0, filter_thr=0.0, mask_thr=0.0)
    root = coco(tmp_path / 'data')
    for part in ('val_evaluator', 'test_evaluator'):
        cfg[part].ann_file = f'{root}/annotations/instances_val2017.json'
    runner, scores = run(cfg, f'{root}/', tmp_path, dict(max_epochs=1))
    assert type(runner.model).__name__ == 'SOLOv2' and -1 <= scores['coco/segm_mAP'] <= 1
    assert (tmp_path / 'epoch_1.pth').is_file()
