"""The further test sets together: missing files, and the configs of their page."""

import re

import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS, METRICS
from processes import ROOT

from dit_sam.datasets import PhraseCutDataset, RefCOCOPartsDataset, RefZOMDataset, RRefCOCODataset


@pytest.mark.parametrize('kind', [RefZOMDataset, RRefCOCODataset, RefCOCOPartsDataset, PhraseCutDataset])
def test_a_missing_file_is_named(kind):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        kind('nowhere')


SNIPPETS = re.findall(r'^```python\n(.*?)^```$', (ROOT / 'docs' / 'test_sets.md').read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize('snippet', SNIPPETS, ids=lambda snippet: re.search(r"type='(\w+)'", snippet).group(1))
def test_configs_on_the_page_name_data_sets(tmp_path, snippet):
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'snippet.py').write_text(snippet)
    config = Config.fromfile(tmp_path / 'snippet.py')
    dataset = DATASETS.build(dict(config.test_dataloader.dataset, lazy_init=True))
    assert dataset.test_mode and len(dataset.pipeline.transforms) == 4
    METRICS.build(config.test_evaluator)
