"""Time saved by scoring the sentences of an image together: `benchmarks/scoring.py [--json FILE]`.

Scores the same sentences in three ways, in turn, several times, from the files to the scores, and prints the medians:

* one by one: a batch is one sentence; every sentence reads, resizes and embeds its image;
* apart: batches of the config's size in which no two neighbors share an image, so that nothing can be shared;
* by image: as in the config, which is what tools/test.py does.

It makes two data sets with seven sentences an image: `shapes`, and JPEG files of 640 x 480 pixels. Before the timing,
each way dumps its results with all masks, and the dumps are compared.
"""

import argparse
import json
import logging
import pickle
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

from dit_sam_cli.arguments import add_config_options

SETS = ('shapes', 'photos')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Time saved by scoring the sentences of an image together')
    parser.add_argument('--config', help='config file; default that of the shipped small model')
    parser.add_argument('--checkpoint', help='weights; default the shipped ones with the default config, else random')
    parser.add_argument('--sets', nargs='+', choices=SETS, default=SETS, help='default both')
    parser.add_argument('--images', type=int, default=40, help='images of each set')
    parser.add_argument('--rounds', type=int, default=5, help='passes over each set in each way')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    add_config_options(parser)
    args = parser.parse_args()
    if min(args.images, args.rounds) < 1:
        parser.error('at least one image and one round are needed')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import numpy as np
import torch
from data_loading import write_photographs, write_set
from measures import write_json
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from mmseg.registry import MODELS
from prettytable import PrettyTable
from torch import nn
from torch.utils.data import DataLoader

from dit_sam.apis import DEFAULT_CHECKPOINT, DEFAULT_CONFIG
from dit_sam.datasets.samplers import images_of
from dit_sam.datasets.shapes import write_shapes
from dit_sam.engine.launch import load_config
from dit_sam.mmengine_extras import prepare_process
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import check_file, load_strictly, read_checkpoint

SENTENCES = 7
WAYS = ('one by one', 'apart', 'by image')


def write_drawn(folder: Path, images: int) -> None:
    """Pictures of `shapes`, the first seven sentences of each."""
    write_shapes(folder, images, splits=dict(val=1.0))
    path = folder / 'shapes' / 'refs(unc).p'
    refs, used = pickle.loads(path.read_bytes()), Counter()
    for ref in refs:
        left = SENTENCES - used[ref['image_id']]
        ref['sentences'], ref['sent_ids'] = ref['sentences'][:left], ref['sent_ids'][:left]
        used[ref['image_id']] += len(ref['sentences'])
    path.write_bytes(pickle.dumps([ref for ref in refs if ref['sentences']], protocol=2))


def write_photographs_set(folder: Path, images: int) -> None:
    """JPEG files of COCO's size with an object and seven sentences in each, in the folders of `shapes`."""
    write_set(folder / 'shapes', images, images, SENTENCES * images, split='val')
    write_photographs(folder / 'images', images)


WRITERS = dict(zip(SETS, (write_drawn, write_photographs_set)))


def build_model(cfg: Config, checkpoint: str | None) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if checkpoint is not None:
        load_strictly(model, read_checkpoint(checkpoint), checkpoint)
    return model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()


def build_loader(cfg: Config, folder: Path, way: str) -> DataLoader:
    """The config's test loader for the set in `folder`, changed as the way needs it."""
    loader = cfg.test_dataloader.to_dict()
    files = dict(ann_file='shapes/instances.json', refs_file='shapes/refs(unc).p', data_prefix=dict(img_path='images/'))
    loader['dataset'].update(files, type='RefCOCODataset', data_root=str(folder), split='val')
    if way != 'by image':
        images = images_of(Runner.build_dataloader(loader).dataset)
        loader.update(batch_sampler=None, sampler=order_apart(images))
    if way == 'one by one':
        loader.update(batch_size=1)
    return Runner.build_dataloader(loader)


def order_apart(images: np.ndarray) -> list[int]:
    """The first items of all images, then the second ones, ..."""
    seen, places = Counter(), []
    for image in images.tolist():
        places.append(seen[image])
        seen[image] += 1
    return np.argsort(places, kind='stable').tolist()


def score(model: nn.Module, loader: DataLoader, metric: dict) -> float:
    """Seconds from the files to the scores."""
    evaluator = Evaluator(metric)
    start = time.perf_counter()
    for batch in loader:
        with torch.no_grad():
            evaluator.process(model.test_step(batch), batch)
    evaluator.evaluate(len(loader.dataset))
    return time.perf_counter() - start


def benchmark(model: nn.Module, cfg: Config, folder: Path, rounds: int) -> dict:
    """Sentences per second in each way, and the number of sentences whose result differs from one by one."""
    loaders = {way: build_loader(cfg, folder, way) for way in WAYS}
    dumps = {}
    for way, loader in loaders.items():
        # This also starts the workers and warms up.
        score(model, loader, dict(type='ReferringIoU', dump=str(folder / f'{way}.jsonl'), dump_masks=True))
        with open(folder / f'{way}.jsonl', encoding='utf-8') as file:
            dumps[way] = [json.loads(line) for line in file]
    seconds = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, loader in loaders.items():
            seconds[way].append(score(model, loader, dict(type='ReferringIoU')))
    number = len(loader.dataset)
    return dict(
        sentences=number,
        images=len(set(images_of(loader.dataset).tolist())),
        rate={way: number / median(times) for way, times in seconds.items()},
        different={way: sum(a != b for a, b in zip(dumps[WAYS[0]], dumps[way], strict=True)) for way in WAYS},
    )


def table(results: dict[str, dict]) -> str:
    lines = PrettyTable(['set', 'way', 'sentences / s', 'x one by one', 'x apart', 'results that differ'], align='r')
    lines.align.update(set='l', way='l')
    for name, result in results.items():
        for way, rate in result['rate'].items():
            ratios = [f'{rate / result["rate"][other]:.2f}' for other in WAYS[:2]]
            lines.add_row([name, way, f'{rate:.1f}', *ratios, result['different'][way]], divider=way == WAYS[-1])
    return lines.get_string()


def main(args: argparse.Namespace) -> None:
    config = args.config or DEFAULT_CONFIG
    if args.checkpoint is None and config == DEFAULT_CONFIG and not args.cfg_options:
        args.checkpoint = DEFAULT_CHECKPOINT
    prepare_process()
    logging.disable(logging.WARNING)
    with one_line_errors(), tempfile.TemporaryDirectory() as temporary:
        if args.json:
            check_file(args.json)
        cfg = load_config(config, cfg_options=args.cfg_options)
        init_default_scope(cfg.default_scope)
        set_multi_processing(**cfg.env_cfg.mp_cfg)
        model, results = build_model(cfg, args.checkpoint), {}
        for name in args.sets:
            WRITERS[name](Path(temporary) / name, args.images)
            results[name] = benchmark(model, cfg, Path(temporary) / name, args.rounds)
    for name, result in results.items():
        print(f'{name}: {result["sentences"]} sentences on {result["images"]} images')
    print(table(results))
    write_json(args.json, results)


if __name__ == '__main__':
    main(ARGS)
