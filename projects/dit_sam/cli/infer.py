"""`dit-sam infer` and tools/infer.py: segment images by sentences."""

import argparse
import json
import os.path as osp
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout

from ..apis import (
    DEFAULT_CHECKPOINT,
    DEFAULT_CONFIG,
    IMAGE_SUFFIXES,
    InputError,
    ReferringInferencer,
    as_coco,
    as_json,
    as_npz,
    list_images,
)
from ..mmengine_extras.diagnostics import one_line_errors
from ..utils import check_folder, wrap_write_errors
from ..visualization import write_new

DESCRIPTION = """Segment images by sentences.

An argument that is an existing file or folder, or ends like an image file, is an image; every other argument is a
sentence. Each image is segmented by each sentence."""
FORMATS = """png: the images with masks and sentences drawn over them, and the masks; json: one file with boxes, scores
and masks as COCO RLE; coco: the same as a COCO data set; npz: one file with the masks as boolean arrays"""


def parse_args(arguments: Sequence[str] | None, program: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('arguments', nargs='+', metavar='IMAGE… SENTENCE…', help='images, folders and sentences')
    add('--config', help='config file, default: the small model of the shapes data')
    add('--checkpoint', help='checkpoint: .pth or .safetensors, default: the weights of that model')
    add('--out', default='work_dirs/infer', help='folder for the results; nothing in it is replaced')
    add('--device', help='as in torch: cpu, cuda:1, ...; default: a GPU if there is one')
    add('--format', choices=['png', 'json', 'coco', 'npz'], default='png', help=FORMATS)
    add(
        '--points',
        metavar='"X,Y X,Y,0 …"',
        help='points inside the object or, with 0 as the third number, outside it, in pixels of the image, for every '
        'sentence; for models that take points',
    )
    add(
        '--boxes',
        metavar='"LEFT,TOP,RIGHT,BOTTOM …"',
        help='a box around the object, in pixels of the image, for every sentence, or a box for each; for models that '
        'take boxes',
    )
    add('--batch-size', type=int, default=1, help='pairs of image and sentence at a time')
    add('--font', help='.ttf or .otf file for the sentences in the pictures; default: an installed one that has them')
    # Images and sentences may come before and after the options.
    return parser.parse_intermixed_args(arguments)


def sort_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate images (files, folders) from sentences; raise `InputError` if one of the two is missing."""
    images = [text for text in arguments if osp.exists(text) or text.lower().endswith(IMAGE_SUFFIXES)]
    sentences = [text for text in arguments if text not in images]
    if not images:
        raise InputError(
            f'no image among the arguments: {arguments[0]!r} is not a file or folder, and does not end in any of '
            f'{", ".join(IMAGE_SUFFIXES)}'
        )
    if not sentences:
        raise InputError(f'no sentence among the arguments: {arguments[-1]!r} is a file or folder; say what to segment')
    return images, sentences


def read_numbers(text: str | None, option: str) -> list[list[float]] | None:
    """Parse "10,20 30,40" into groups of numbers, or raise `InputError`; None stays None."""
    if text is None:
        return None
    try:
        groups = [[float(number) for number in group.split(',')] for group in text.split()]
    except ValueError:
        groups = []
    if not groups:
        raise InputError(
            f'{option} {text!r} is not groups of numbers like "10,20 30,40": commas within a group, blanks between'
        )
    return groups


def report(prediction: dict) -> str:
    """A prediction in one line."""
    found = 'nothing found'
    if prediction['area']:
        found = f'score {prediction["score"]:.2f}, {prediction["area"]} pixels in {prediction["box"]}'
    return f'{prediction["img_path"]}: {prediction["sentence"]}: {found}'


def write_predictions(predictions: Sequence[dict], args: argparse.Namespace) -> str:
    """Write all predictions to one new file and return its path."""
    stem, suffix = 'predictions', '.json'
    if args.format == 'npz':
        content, suffix = as_npz(predictions), '.npz'
    else:
        plain = dict(config=args.config, checkpoint=args.checkpoint, predictions=list(map(as_json, predictions)))
        if args.format == 'coco':
            plain, stem = as_coco(predictions), 'coco'
        content = json.dumps(plain, ensure_ascii=False, indent=1).encode()
    with wrap_write_errors(args.out):
        return write_new(content, args.out, stem, suffix)


def segment(args: argparse.Namespace) -> list[dict]:
    """The predictions for a command line; errors as in `ReferringInferencer`."""
    paths, sentences = sort_arguments(args.arguments)
    if args.config and not args.checkpoint:
        raise InputError('--config without --checkpoint: name the weights that belong to that config')
    args.config, args.checkpoint = args.config or DEFAULT_CONFIG, args.checkpoint or DEFAULT_CHECKPOINT
    images = list_images(paths)
    check_folder(args.out)
    points, boxes = read_numbers(args.points, '--points'), read_numbers(args.boxes, '--boxes')
    # One box is for all sentences.
    image_boxes = boxes[0] if boxes is not None and len(boxes) == 1 else boxes
    inferencer = ReferringInferencer(args.config, args.checkpoint, args.device, show_progress=sys.stderr.isatty())
    return inferencer(
        images,
        [sentences] * len(images),
        points and [points] * len(images),
        image_boxes and [image_boxes] * len(images),
        batch_size=args.batch_size,
        return_masks='array' if args.format == 'npz' else 'rle',
        out_dir=args.out if args.format == 'png' else '',
        font=args.font,
    )['predictions']


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> None:
    """Run a command line, by default the program's own; exit with 1 and one line on stderr for bad input."""
    args = parse_args(arguments, program)
    # mmseg's losses warn about defaults that matter only in training.
    warnings.filterwarnings('ignore', category=UserWarning, module='mmseg')
    # mmengine's messages go to stderr, so that stdout has only the results.
    with one_line_errors(), redirect_stdout(sys.stderr):
        predictions = segment(args)
        if args.format == 'png':
            files = list(dict.fromkeys(prediction['overlay_file'] for prediction in predictions))
        else:
            files = [write_predictions(predictions, args)]
    print('\n'.join(map(report, predictions)))
    print('\n'.join(['written:', *files]))
