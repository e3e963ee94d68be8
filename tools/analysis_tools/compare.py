"""Several models side by side (DIT, Figure 4): ``tools/analysis_tools/compare.py CONFIG CHECKPOINT [… …]``.

Draws for each sentence the image, the ground truth and the mask of each model with its IoU. The data are those of the
first config; each model prepares images as in its own config.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dit_sam_cli.arguments import add_config_options, let_threads_yield

ROWS = 8  # on a sheet
# For each --order, the key by which the sentences are sorted.
ORDERS = dict(
    given=lambda item: 0,
    worst=lambda item: float(np.mean(item.ious)),
    difference=lambda item: min(item.ious) - max(item.ious),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', metavar='CONFIG CHECKPOINT', help='config file and checkpoint of each')
    parser.add_argument('--split', choices=['val', 'test'], default='val', help='which data loader')
    parser.add_argument('--indices', type=int, nargs='+', help='items of the dataset')
    parser.add_argument('--number', type=int, default=ROWS, help='sentences to draw')
    parser.add_argument('--kind', help="only sentences of this kind, as in the dataset's items: attribute, place, …")
    parser.add_argument(
        '--order',
        choices=ORDERS,
        default='given',
        help='given: spread evenly over the dataset; worst: by the mean IoU of the models; difference: '
        'by the largest difference between two of them',
    )
    parser.add_argument('--among', type=int, default=200, help='sentences, spread evenly, that --order chooses from')
    parser.add_argument('--out', default='work_dirs/compare', help='folder for the pictures; no file is replaced')
    parser.add_argument('--device', help='as in torch: cpu, cuda:1, ...; default: a GPU where there is one')
    parser.add_argument('--font', help='.ttf or .otf file for the sentences')
    add_config_options(parser, '; for the first config, such as the folder of its data')
    args = parser.parse_args()
    if len(args.models) % 2:
        parser.error(f'name a checkpoint after each config, got {len(args.models)} files')
    if args.number < 1 or args.among < 1:
        parser.error('--number and --among must be 1 or more')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()
    let_threads_yield()

import numpy as np
from browse_dataset import open_dataset, spread

from dit_sam.apis import ReferringInferencer
from dit_sam.engine.launch import check_checkpoint
from dit_sam.errors import InputError
from dit_sam.evaluation.scores import Areas
from dit_sam.mmengine_extras import prepare_process
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import check_folder, wrap_write_errors
from dit_sam.visualization import draw_masks, draw_sheet, read_as_loaded, write_image


class Item(NamedTuple):
    """A sentence, its truth and the mask of each model at the image's size, and which pixels count."""

    img_path: str
    sentence: str
    truth: np.ndarray
    masks: list[np.ndarray]
    no_target: bool = False
    counting: np.ndarray | bool = True

    @property
    def ious(self) -> list[float]:
        """The IoU of each model; it is 1 for an empty mask of a sentence without a target."""
        return [
            Areas(int((mask & self.truth).sum()), int(mask.sum()), int(self.truth.sum()), self.no_target).iou
            for mask in (each & self.counting for each in self.masks)
        ]


def choose(dataset, indices: Sequence[int] | None, kind: str | None, number: int) -> list[int]:
    """The items to segment: those of a kind among `indices`, or else `number` of that kind, evenly spread.

    Raises:
        InputError: An index is beyond the dataset, or there is no item of that kind.
    """
    beyond = [index for index in indices or () if not 0 <= index < len(dataset)]
    if beyond:
        raise InputError(f'--indices {beyond[0]}: the dataset has the items 0 to {len(dataset) - 1}')
    found = list(range(len(dataset)) if indices is None else indices)
    if kind is not None:
        kinds = {index: dataset.get_data_info(index).get('kind') for index in found}
        found = [index for index in found if kinds[index] == kind]
        if not found:
            raise InputError(
                f'no item is of --kind {kind}; the kinds are {", ".join(sorted(set(map(str, kinds.values()))))}'
            )
    if indices is None:
        found = [found[place] for place in spread(len(found), number)]
    return found


def segment(dataset, indices: Sequence[int], inferencers: Sequence[ReferringInferencer]) -> list[Item]:
    """The items with the masks of all models."""
    samples = [dataset[index]['data_samples'] for index in indices]
    paths, sentences = [sample.img_path for sample in samples], [sample.text for sample in samples]
    masks = [
        [prediction['mask'] for prediction in inferencer(paths, sentences)['predictions']] for inferencer in inferencers
    ]
    truths = [sample.gt_sem_seg.data[0].numpy() == 1 for sample in samples]
    nothing = [sample.get('no_target', not truth.any()) for sample, truth in zip(samples, truths)]
    counting = [sample.gt_sem_seg.data[0].numpy() != 255 for sample in samples]
    return [Item(*item) for item in zip(paths, sentences, truths, map(list, zip(*masks)), nothing, counting)]


def draw(items: Sequence[Item], names: Sequence[str], font: str | None = None, dataset: Any = None) -> np.ndarray:
    """A sheet with a row for each item: image, ground truth, and the mask of each model under its name and IoU."""
    rows = []
    for item in items:
        image = read_as_loaded(dataset, item.img_path)
        captions = ['truth', *(f'{name}, IoU {100 * iou:.1f}' for name, iou in zip(names, item.ious))]
        cells = [
            (caption, draw_masks(image, [mask], [''], min_side=0)[: len(image)])
            for caption, mask in zip(captions, [item.truth, *item.masks])
        ]
        rows.append((item.sentence, [('image', image), *cells]))
    return draw_sheet(rows, cell_width=220, font=font)


def names_of(configs: Sequence[str], checkpoints: Sequence[str]) -> list[str]:
    """Names of the models: those of the configs, or of checkpoints with their folders if two configs have one name."""
    names = [Path(config).stem for config in configs]
    if len(set(names)) == len(names):
        return names
    return ['/'.join(Path(checkpoint).with_suffix('').parts[-2:]) for checkpoint in checkpoints]


def main(args: argparse.Namespace) -> None:
    prepare_process()
    configs, checkpoints = args.models[::2], args.models[1::2]
    with one_line_errors():
        check_folder(args.out)
        for checkpoint in checkpoints:
            check_checkpoint(checkpoint)
        _, dataset = open_dataset(configs[0], args.split, args.cfg_options)
        indices = choose(dataset, args.indices, args.kind, args.number if args.order == 'given' else args.among)
        inferencers = [ReferringInferencer(*model, args.device) for model in zip(configs, checkpoints)]
        items = sorted(segment(dataset, indices, inferencers), key=ORDERS[args.order])
        if args.indices is None:
            items = items[: args.number]
        names = names_of(configs, checkpoints)
        sheets = [draw(items[first : first + ROWS], names, args.font, dataset) for first in range(0, len(items), ROWS)]
        with wrap_write_errors(args.out):
            paths = [write_image(sheet, args.out, f'{args.split}_{args.order}') for sheet in sheets]
    print('\n'.join(['written:', *paths]))


if __name__ == '__main__':
    main(ARGS)
