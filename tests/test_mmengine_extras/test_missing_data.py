"""Missing data of other projects' data sets: the error names the config keys that contain the path."""

import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS

from dit_sam.errors import log_warning
from dit_sam.mmengine_extras.diagnostics import missing_data_advice


def loader(root: str) -> dict:
    return dict(
        dataset=dict(
            type='ADE20KDataset',
            data_root=root,
            data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
            pipeline=[],
        )
    )


def test_the_config_keys_of_a_missing_folder_are_named(tmp_path):
    root = str(tmp_path / 'ade')
    cfg = Config(
        dict(
            data_root=root,
            train_dataloader=loader(f'{root}/'),
            val_dataloader=loader(root),
            test_dataloader=loader(f'{root}20k'),
            work_dir='work_dirs/a',
        )
    )
    with pytest.raises(FileNotFoundError) as caught, missing_data_advice(cfg):
        DATASETS.build(cfg.train_dataloader.dataset)
    assert str(caught.value) == (
        f'{root}/images/training not found: put it there, or name its place by --cfg-options for '
        'train_dataloader.dataset.data_root and val_dataloader.dataset.data_root'
    )


def test_the_config_key_of_a_missing_metric_file_is_named(tmp_path):
    """As mmdet's CocoMetric, which has no data_root."""
    path = str(tmp_path / 'instances.json')
    cfg = Config(dict(val_evaluator=[dict(type='CocoMetric', ann_file=path)]))
    with (
        pytest.raises(FileNotFoundError, match='instances.json not found: .* for val_evaluator.0.ann_file$'),
        missing_data_advice(cfg),
    ):
        open(path)  # noqa: SIM115


@pytest.mark.parametrize(
    'error',
    [
        FileNotFoundError('image a.jpg not found: check the path'),
        FileNotFoundError(2, 'No such file or directory', 'other'),
    ],
)
def test_other_errors_pass(error):
    with pytest.raises(FileNotFoundError) as caught, missing_data_advice(Config(dict(model=dict(), work_dir='a'))):
        raise error
    assert caught.value is error


def test_what_one_rank_alone_knows_is_printed(monkeypatch, capfd):
    """mmengine shows warnings of rank 0 only."""
    monkeypatch.setattr('mmengine.dist.get_rank', lambda: 3)
    log_warning('a.jpg could not be read', of_one_rank=True)
    assert capfd.readouterr().err == 'rank 3: a.jpg could not be read\n'
