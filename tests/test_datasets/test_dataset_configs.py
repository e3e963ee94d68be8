"""The data sets of the configs."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import DATASETS

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / 'configs' / '_base_' / 'datasets').glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_builds(path):
    config = Config.fromfile(path)
    for name in ('train', 'val', 'test'):
        dataset = config[f'{name}_dataloader'].dataset
        for part in dataset.get('datasets', [dataset]):
            built = DATASETS.build(dict(part, lazy_init=True))
            assert built.metainfo['classes'] == ('background', 'referent')
            assert built.test_mode == (name != 'train')


def test_prepared_config_gives_the_items_of_the_original(write_refcoco, tmp_path):
    root = write_refcoco()
    (tmp_path / 'prepared').mkdir()
    original, prepared = (
        Config.fromfile(ROOT / 'configs' / '_base_' / 'datasets' / name)
        for name in ('refcoco.py', 'refcoco_prepared.py')
    )
    for name, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        datasets = []
        for config in (original, prepared):
            dataset = DATASETS.build(dict(config[f'{name}_dataloader'].dataset, data_root=root, lazy_init=True))
            if config is original:
                dataset.load_table().save(tmp_path / 'prepared' / f'refcoco_unc_{split}.safetensors')
            np.random.seed(0)
            datasets.append([dataset.get_data_info(index) for index in range(len(dataset))])
            assert dataset.pipeline.transforms
        assert datasets[0] == datasets[1]


def test_the_papers_config_yields_batches(write_refcoco):
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'datasets' / 'refcoco.py')
    loaders = {}
    for name in ('train', 'val'):
        loader = config[f'{name}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = write_refcoco()
        loaders[name] = Runner.build_dataloader(loader, seed=0)
    train, val = next(iter(loaders['train'])), next(iter(loaders['val']))
    for image, sample in zip(train['inputs'], train['data_samples']):
        assert max(image.shape) in range(320, 513, 32) and image.shape[1:] == sample.gt_sem_seg.shape
    assert [sample.gt_sem_seg.shape for sample in val['data_samples']] == [(30, 50)] * 2
    assert [tuple(image.shape) for image in val['inputs']] == [(3, 307, 512)] * 2  # 30 * 512 / 50 = 307.2
