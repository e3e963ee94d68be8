"""The shipped weights reach the scores of the README."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from safetensors import safe_open

from dit_sam.apis import DEFAULT_CHECKPOINT, DEFAULT_CONFIG
from dit_sam.datasets.shapes import write_shapes

GENERALIZED_CHECKPOINT = DEFAULT_CHECKPOINT.replace('_shapes', '_gshapes')


def score(folder: Path, config: str, checkpoint: str, generalized: bool = False) -> dict:
    """Scores on 12 pictures of a seed that no training saw, by the very runner that tools/test.py uses."""
    write_shapes(folder / 'data', 12, 77, 160, dict(val=1.0), 1, generalized=generalized)
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.load_from = str(folder / 'work'), checkpoint
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(folder / 'data')
        loader.update(num_workers=0, persistent_workers=False)
    return Runner.from_cfg(cfg).test()


def test_scores(tmp_path: Path) -> None:
    """Far above the score of any fixed answer, because the pictures have four objects on average."""
    scores = score(tmp_path, DEFAULT_CONFIG, DEFAULT_CHECKPOINT)
    assert scores['mIoU'] > 87 and scores['P@0.5'] > 94
    assert all(scores[f'mIoU/{kind}'] > 84 for kind in ('attribute', 'place', 'relation'))


def test_generalized_scores(tmp_path: Path) -> None:
    scores = score(tmp_path, DEFAULT_CONFIG.replace('_shapes', '_gshapes'), GENERALIZED_CHECKPOINT, generalized=True)
    assert scores['gIoU'] > 78 and scores['N-acc'] > 84 and scores['T-acc'] > 86


@pytest.mark.parametrize('checkpoint', [DEFAULT_CHECKPOINT, GENERALIZED_CHECKPOINT], ids=['shapes', 'gshapes'])
def test_file_is_small_and_records_its_origin(checkpoint: str) -> None:
    assert Path(checkpoint).stat().st_size < 8_000_000
    with safe_open(checkpoint, 'pt') as file:
        metadata = file.metadata()
    assert "type='LayerWiseInstruction'" in metadata['config'] and metadata['dit_sam']
    assert json.loads(metadata['scores'])['P@0.5'] > 85
    assert '/tmp' not in str(metadata)
