"""Draw the inputs of the model: ``tools/analysis_tools/browse_dataset.py CONFIG [--split train --sheet]``.

Draws items after the pipeline, so after augmentation, and before the data preprocessor: the image, its sentence, the
mask, the box around it, and the points and boxes of the pipeline that prompt the model.
"""

import argparse
from collections.abc import Sequence

from dit_sam_cli.arguments import add_config_options


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw the items of a dataset as the model gets them')
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train', help='which data loader')
    parser.add_argument('--num', type=int, default=16, help='number of items, spread evenly over the dataset')
    parser.add_argument('--out', default='work_dirs/browse', help='folder for the pictures; no file is replaced')
    parser.add_argument('--sheet', action='store_true', help='one contact sheet in place of single pictures')
    parser.add_argument('--seed', type=int, default=0, help='for augmentation and the choice of sentences')
    add_config_options(parser)
    args = parser.parse_args()
    if args.num < 1:
        parser.error(f'--num must be 1 or more, got {args.num}')
    if not 0 <= args.seed < 2**32:  # numpy's
        parser.error(f'--seed must be from 0 to 2^32 - 1, got {args.seed}')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmseg.registry import DATASETS
from torch import Tensor
from torch.utils.data import Dataset

from dit_sam.apis.results import box_around
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import prepare_process
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import check_folder, wrap_write_errors
from dit_sam.visualization import draw_masks, file_stem, write_image


def open_dataset(config: str, split: str, cfg_options: dict | list[str] | None) -> tuple[Config, Dataset]:
    """A config, and the dataset of its data loader.

    Raises:
        InputError: It has no such data loader.
    """
    cfg = load_config(config, cfg_options=cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        raise InputError(f'{config} has no {split}_dataloader: choose another --split')
    return cfg, DATASETS.build(loader.dataset)


def spread(count: int, number: int) -> list[int]:
    """At most `number` indices, evenly spread over `count` items."""
    return np.linspace(0, count - 1, min(number, count)).round().astype(int).tolist()


def single_items(item: dict) -> list[dict]:
    """An item, or the items in one that holds several sentences of an image."""
    if isinstance(item['inputs'], list):
        return [dict(inputs=image, data_samples=sample) for image, sample in zip(*item.values())]
    return [item]


def draw_item(item: dict, bgr: bool = True) -> np.ndarray:
    """The picture of an item as `PackReferringInputs` leaves it, RGB with a legend, (H', W', 3).

    The ground truth of test pipelines has the original size; it is drawn at the size of the image.

    Args:
        item: `inputs`, (3, H, W), and `data_samples`.
        bgr: Whether the channels of `inputs` are blue, green, red.
    """
    image = _picture(item['inputs'], bgr)
    sample = item['data_samples']
    truth = sample.gt_sem_seg.data[0].numpy().astype(np.uint8)
    mask = cv2.resize(truth, image.shape[1::-1], interpolation=cv2.INTER_NEAREST) == 1
    masks, legend = [mask], [sample.get('text', '(no sentence)')]
    around = box_around(mask)
    if around is not None:
        masks, legend = [*masks, frame(mask.shape, around)], [*legend, f'box {around}']
    for name, prompt in prompts_of(sample, mask.shape).items():
        masks, legend = [*masks, prompt], [*legend, name]
    return draw_masks(image, masks, legend, empty='no target' if sample.get('no_target', True) else 'no pixel')


def _picture(inputs: Tensor, bgr: bool) -> np.ndarray:
    image = np.ascontiguousarray(inputs.numpy().transpose(1, 2, 0)[..., :: -1 if bgr else 1])
    return image.clip(0, 255).astype(np.uint8)


def frame(size: Sequence[int], box: Sequence[float]) -> np.ndarray:
    """The border of a box (left, top, right, bottom; the last two exclusive) as a mask of `size`."""
    canvas = np.zeros(size, np.uint8)
    left, top, right, bottom = (round(float(edge)) for edge in box)
    return cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), 1, max(1, max(size) // 200)) == 1


def prompts_of(sample, size: Sequence[int]) -> dict[str, np.ndarray]:
    """The points and the box that prompt the model, as masks of `size` by their captions."""
    prompts = {}
    if sample.get('box') is not None:
        prompts['prompt: box'] = frame(size, sample.box)
    for number, (point, label) in enumerate(zip(sample.get('points', ()), sample.get('point_labels', ())), 1):
        center = tuple(round(float(value)) for value in point)
        disc = cv2.circle(np.zeros(size, np.uint8), center, max(2, max(size) // 60), 1, cv2.FILLED)
        prompts[f'prompt: point {number}, {"inside" if label else "outside"}'] = disc == 1
    return prompts


def contact_sheet(pictures: Sequence[np.ndarray], width: int = 480, gap: int = 8) -> np.ndarray:
    """RGB pictures in a grid on white, all of the same width, so that their legends are equally large.

    The grid has as many columns as rows, or one more.
    """
    columns = int(np.ceil(np.sqrt(len(pictures))))
    cells = [
        cv2.resize(picture, (width, round(len(picture) * width / picture.shape[1])), interpolation=cv2.INTER_AREA)
        for picture in pictures
    ]
    rows = []
    for start in range(0, len(cells), columns):
        members = cells[start : start + columns]
        row = np.full((max(map(len, members)) + gap, columns * (width + gap), 3), 255, np.uint8)
        for column, cell in enumerate(members):
            row[: len(cell), column * (width + gap) :][:, :width] = cell
        rows.append(row)
    return np.concatenate(rows)


def main(args: argparse.Namespace) -> None:
    prepare_process()
    with one_line_errors():
        check_folder(args.out)
        set_random_seed(args.seed)
        cfg, dataset = open_dataset(args.config, args.split, args.cfg_options)
        bgr = ((cfg.get('model') or {}).get('data_preprocessor') or {}).get('bgr_to_rgb', True)
        items = [each for index in spread(len(dataset), args.num) for each in single_items(dataset[index])]
        pictures = [draw_item(item, bgr) for item in items]
        names = [f'{args.split}_sheet']
        if args.sheet:
            pictures = [contact_sheet(pictures)]
        else:
            samples = [item['data_samples'] for item in items]
            names = [f'{args.split}_{file_stem(sample.img_path, sample.get("text", ""))}' for sample in samples]
        with wrap_write_errors(args.out):
            paths = [write_image(picture, args.out, name) for picture, name in zip(pictures, names)]
    print('\n'.join(['written:', *paths]))


if __name__ == '__main__':
    main(ARGS)
