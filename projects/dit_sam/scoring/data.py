"""Open the data that predictions are scored on: a config's test set, or files."""

import os.path as osp
from typing import Any

from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from ..datasets import GRefCOCODataset, RefCOCODataset, ReferringDataset, ReferringJSONDataset
from ..datasets.instances import Instances
from ..engine.launch import load_config
from ..errors import InputError


def open_data(
    source: str, refs: str | None = None, split: str | None = None, images: str | None = None, masks: str | None = None
) -> ReferringDataset:
    """The sentences of a data set in test mode, without a pipeline, not yet loaded; images are not opened.

    Args:
        source: A config (`.py`, or `dit_sam::NAME.py`), whose test set counts; a prepared file (`.safetensors`); lines
            of JSON (`.jsonl`); or COCO instances (`.json`), with `refs`.
        refs: REFER's references to these instances, such as `refs(unc).p`, or gRefCOCO's `grefs(unc).json`.
        split: The split of `refs`; None is 'val'.
        images: Folder of the images; None is that of the file for lines of JSON, and else the current one.
        masks: Folder of the masks that lines of JSON name; None is that of the file.

    Raises:
        FileNotFoundError: A file does not exist.
        InputError: A file is damaged, the config has no test set that can be scored, or an argument is for data of
            another kind.
    """
    suffix = osp.splitext(source)[1]
    for name, value, kinds in (
        ('--refs', refs, ('.json',)),
        ('--split', split, ('.json',)),
        ('--masks', masks, ('.jsonl',)),
        ('--images', images, ('.json', '.jsonl', '.safetensors')),
    ):
        if value is not None and suffix not in kinds:
            raise InputError(f'--data {source} has no use for {name} {value}, which is for {" and ".join(kinds)} files')
    if suffix == '.py':
        return _of_config(source)
    common: dict[str, Any] = dict(pipeline=[], test_mode=True, lazy_init=True, data_prefix=dict(img_path=images or ''))
    if suffix == '.safetensors':
        return ReferringDataset(source, **common)
    if suffix == '.jsonl':
        beside = osp.dirname(source)
        folders = dict(img_path=beside if images is None else images, seg_map_path=beside if masks is None else masks)
        return ReferringJSONDataset(source, **dict(common, data_prefix=folders))
    if suffix != '.json':
        raise InputError(
            f'--data {source}: name a config (.py), a prepared file (.safetensors), lines of JSON (.jsonl), or COCO '
            'instances (.json) with --refs'
        )
    if refs is None:
        raise InputError(
            f'--data {source} holds objects and no sentences: name the references too, --refs "refs(unc).p"'
        )
    kind = GRefCOCODataset if refs.endswith('.json') else RefCOCODataset
    return kind(ann_file=source, refs_file=refs, split=split or 'val', keep_outlines=True, **common)


def instances_of(dataset: ReferringDataset, path: str | None = None) -> Instances | None:
    """All objects of the images: of a file, or of the file that the data set reads; None if there is none.

    Before the data set is loaded, so that the file is read once.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is not in the format of COCO instances.
    """
    path = path or (dataset.ann_file if isinstance(dataset, RefCOCODataset) else None)
    return None if path is None else Instances.open(path)


def _of_config(source: str) -> ReferringDataset:
    cfg = load_config(source)
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    loader = cfg.get('test_dataloader')
    dataset = loader.get('dataset') if isinstance(loader, dict) else None
    if not isinstance(dataset, dict) or 'type' not in dataset:
        raise InputError(f'--data {source} has no test_dataloader.dataset with a type: name a config with a test set')
    settings = dict(dataset)
    kind = DATASETS.get(settings['type']) if isinstance(settings['type'], str) else settings['type']
    if not (isinstance(kind, type) and issubclass(kind, ReferringDataset)):
        raise InputError(
            f'--data {source}: its test set is a {settings["type"]}, not a referring data set of this project; score '
            'the data sets of a joined one one by one, by their files'
        )
    settings.update(pipeline=[], test_mode=True, lazy_init=True)
    if issubclass(kind, RefCOCODataset):
        settings['keep_outlines'] = True
    return DATASETS.build(settings)
