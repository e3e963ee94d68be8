"""See the data as the model does: ``tools/analysis_tools/browse_dataset.py CONFIG [--split train --num 16 --sheet]``.

Draws items after the pipeline, so after augmentation, and before the data preprocessor: the image, its sentence, the
mask, the box around it, and points and boxes that prompt the model, where the pipeline makes them.
"""

import argparse
from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmseg.registry import DATASETS
from torch import Tensor

from dit_sam.apis.results import box_around
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.config_options import add_config_options
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.visualization import draw_masks, file_stem, write_image


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw what the model sees of a dataset')
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train', help='which data loader')
    parser.add_argument('--num', type=int, default=16, help='number of items, spread evenly over the dataset')
    parser.add_argument('--out', default='work_dirs/browse', help='folder for pictures; nothing in it is replaced')
    parser.add_argument('--sheet', action='store_true', help='one contact sheet in place of single pictures')
    parser.add_argument('--seed', type=int, default=0, help='of the augmentation and of the sentences that are drawn')
    add_config_options(parser)
    args = parser.parse_args()
    if args.num < 1:
        parser.error(f'--num takes a number from 1 on, got {args.num}')
    if not 0 <= args.seed < 2**32:  # numpy's
        parser.error(f'--seed takes a number from 0 to 2^32 - 1, got {args.seed}')
    return args


def draw_item(item: dict, bgr: bool = True) -> np.ndarray:
    """The picture of an item as `PackReferringInputs` leaves it, RGB with a legend, (H', W', 3).

    In testing the truth has the original size; it is drawn at that of the image.

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
    """Points and box that prompt the model, as masks of `size` by what they are."""
    prompts = {}
    if sample.get('box') is not None:
        prompts['prompt: box'] = frame(size, sample.box)
    for number, (point, label) in enumerate(zip(sample.get('points', ()), sample.get('point_labels', ())), 1):
        center = tuple(round(float(value)) for value in point)
        disc = cv2.circle(np.zeros(size, np.uint8), center, max(2, max(size) // 60), 1, cv2.FILLED)
        prompts[f'prompt: point {number}, {"inside" if label else "outside"}'] = disc == 1
    return prompts


def contact_sheet(pictures: Sequence[np.ndarray], width: int = 480, gap: int = 8) -> np.ndarray:
    """Pictures side by side, row by row, on white; as many columns as rows, or one more.

    Args:
        pictures: RGB pictures of any size.
        width: All are brought to this width, so that their legends are equally large.
        gap: White pixels to the right of each and below.
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


def main() -> None:
    args = parse_args()
    with one_line_errors():
        cfg = load_config(args.config, cfg_options=args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        loader = cfg.get(f'{args.split}_dataloader')
        if loader is None:
            raise InputError(f'{args.config} has no {args.split}_dataloader: choose another --split')
        set_random_seed(args.seed)
        dataset = DATASETS.build(loader.dataset)
        bgr = ((cfg.get('model') or {}).get('data_preprocessor') or {}).get('bgr_to_rgb', True)
        indices = np.linspace(0, len(dataset) - 1, min(args.num, len(dataset))).round().astype(int)
        items = [dataset[int(index)] for index in indices]
        pictures = [draw_item(item, bgr) for item in items]
        if args.sheet:
            paths = [write_image(contact_sheet(pictures), args.out, f'{args.split}_sheet')]
        else:
            samples = [item['data_samples'] for item in items]
            names = [f'{args.split}_{file_stem(sample.img_path, sample.get("text", ""))}' for sample in samples]
            paths = [write_image(picture, args.out, name) for picture, name in zip(pictures, names)]
    print('\n'.join(['written:', *paths]))


if __name__ == '__main__':
    main()
