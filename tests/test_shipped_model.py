"""The weights that come with the repository do what the README says of them."""
from pathlib import Path

import pytest
from dit_sam.apis import DEFAULT_CHECKPOINT, DEFAULT_CONFIG
from dit_sam.datasets.shapes import write_shapes
from mmengine.config import Config
from mmengine.runner import Runner
from safetensors import safe_open


@pytest.fixture(scope='module')
def scores(tmp_path_factory) -> dict:
    """Scores on 24 pictures of a seed that no training saw, by the very runner that tools/test.py uses."""
    folder = tmp_path_factory.mktemp('shipped')
    write_shapes(folder / 'data', 24, 77, 160, dict(val=1.), 1)
    cfg = Config.fromfile(DEFAULT_CONFIG)
    cfg.work_dir, cfg.load_from = str(folder / 'work'), DEFAULT_CHECKPOINT
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(folder / 'data')
        loader.update(num_workers=0, persistent_workers=False)
    return Runner.from_cfg(cfg).test()


def test_scores(scores: dict) -> None:
    """Far above what any fixed answer gives: the pictures hold four objects on average."""
    assert scores['mIoU'] > 87 and scores['P@0.5'] > 94
    assert all(scores[f'mIoU/{kind}'] > 84 for kind in ('attribute', 'place', 'relation'))


def test_file_is_small_and_says_where_it_comes_from() -> None:
    assert Path(DEFAULT_CHECKPOINT).stat().st_size < 8_000_000
    with safe_open(DEFAULT_CHECKPOINT, 'pt') as file:
        metadata = file.metadata()
    assert "type='LayerWiseInstruction'" in metadata['config'] and metadata['dit_sam']
    assert '/tmp' not in str(metadata)
