"""``dit-sam infer`` and tools/infer.py: segment pictures by sentences."""

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
from ..utils import check_folder, writing_to
from ..visualization import write_new

DESCRIPTION = """Segment pictures by sentences.

An argument that is an existing file or folder, or ends like an image file, is an image; every other one is a
sentence. Every sentence is asked of every image."""
FORMATS = """png: pictures with masks and sentences drawn over them, and the masks; json: one file with boxes, scores
and masks as COCO RLE; coco: the same as a data set in COCO's form; npz: one file with the masks as boolean arrays"""


def parse_args(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('arguments', nargs='+', metavar='IMAGE… SENTENCE…', help='images, folders and sentences')
    parser.add_argument('--config', help='config file, default: the small model of the shapes data')
    parser.add_argument('--checkpoint', help='checkpoint: .pth or .safetensors, default: the weights of that model')
    parser.add_argument('--out', default='work_dirs/infer', help='folder for the results; nothing in it is replaced')
    parser.add_argument('--device', help='as in torch: cpu, cuda:1, ...; default: a GPU where there is one')
    parser.add_argument('--format', choices=['png', 'json', 'coco', 'npz'], default='png', help=FORMATS)
    parser.add_argument(
        '--points',
        metavar='"X,Y X,Y,0 …"',
        help='points inside the object or, with 0 behind, outside '
        'it, in pixels of the image, for every sentence; for models that take them',
    )
    parser.add_argument(
        '--boxes',
        metavar='"LEFT,TOP,RIGHT,BOTTOM …"',
        help='a box around the object, in pixels of '
        'the image, for every sentence, or a box for each; for models that take them',
    )
    parser.add_argument('--batch-size', type=int, default=1, help='pairs of image and sentence at a time')
    parser.add_argument(
        '--font',
        help='.ttf or .otf file for the sentences in the pictures; default: one of this machine that has their letters',
    )
    # Images and sentences may stand on both sides of the options.
    return parser.parse_intermixed_args(arguments)


def sort_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Images (files, folders) and sentences among the arguments.

    Raises:
        InputError: One of the two is missing.
    """
    images = [text for text in arguments if osp.exists(text) or text.lower().endswith(IMAGE_SUFFIXES)]
    sentences = [text for text in arguments if text not in images]
    if not images:
        raise InputError(
            f'no image among the arguments: {arguments[0]!r} is no file or folder, and ends in none of '
            f'{", ".join(IMAGE_SUFFIXES)}'
        )
    if not sentences:
        raise InputError(f'no sentence among the arguments: {arguments[-1]!r} is a file or folder; say what to segment')
    return images, sentences


def read_numbers(text: str | None, option: str) -> list[list[float]] | None:
    """The groups of an argument like "10,20 30,40"; None where it is not given.

    Raises:
        InputError: There is something else than numbers.
    """
    try:
        groups = None if text is None else [[float(number) for number in group.split(',')] for group in text.split()]
    except ValueError:
        groups = []
    if groups == []:
        raise InputError(
            f'{option} {text!r} is not groups of numbers like "10,20 30,40": commas within a group, blanks between'
        )
    return groups


def report(prediction: dict) -> str:
    """A prediction in a line."""
    found = 'nothing found'
    if prediction['area']:
        found = f'score {prediction["score"]:.2f}, {prediction["area"]} pixels in {prediction["box"]}'
    return f'{prediction["img_path"]}: {prediction["sentence"]}: {found}'


def write_predictions(predictions: Sequence[dict], args: argparse.Namespace) -> str:
    """Write the predictions into one new file; its path."""
    if args.format == 'npz':
        return _write(as_npz(predictions), args.out, 'predictions', '.npz')
    if args.format == 'coco':
        content = as_coco(predictions)
    else:
        content = dict(config=args.config, checkpoint=args.checkpoint, predictions=list(map(as_json, predictions)))
    text = json.dumps(content, ensure_ascii=False, indent=1)
    return _write(text.encode(), args.out, 'coco' if args.format == 'coco' else 'predictions', '.json')


def _write(content: bytes, folder: str, stem: str, suffix: str) -> str:
    with writing_to(folder):
        return write_new(content, folder, stem, suffix)


def segment(args: argparse.Namespace) -> list[dict]:
    """The predictions of a command line.

    Raises:
        FileNotFoundError: An image, the config, the checkpoint or the font does not exist.
        CheckpointError: The checkpoint is damaged or belongs to another model.
        InputError: Anything else that is wrong with what the user gave.
    """
    images, sentences = sort_arguments(args.arguments)
    if args.config and not args.checkpoint:
        raise InputError('--config without --checkpoint: name the weights that belong to that config')
    args.config, args.checkpoint = args.config or DEFAULT_CONFIG, args.checkpoint or DEFAULT_CHECKPOINT
    images = list_images(images)
    check_folder(args.out)
    points, boxes = read_numbers(args.points, '--points'), read_numbers(args.boxes, '--boxes')
    boxes = boxes[0] if boxes is not None and len(boxes) == 1 else boxes
    inferencer = ReferringInferencer(args.config, args.checkpoint, args.device, show_progress=sys.stderr.isatty())
    return inferencer(
        images,
        [sentences] * len(images),
        points and [points] * len(images),
        boxes and [boxes] * len(images),
        batch_size=args.batch_size,
        return_masks='array' if args.format == 'npz' else 'rle',
        out_dir=args.out if args.format == 'png' else '',
        font=args.font,
    )['predictions']


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> None:
    """Run a command line, by default the program's own; end with status 1 and one line on bad input."""
    args = parse_args(arguments, program)
    # mmseg's losses warn of defaults that matter in training only.
    warnings.filterwarnings('ignore', category=UserWarning, module='mmseg')
    # What mmengine reports goes to stderr, so that stdout has the results alone.
    with one_line_errors(InputError), redirect_stdout(sys.stderr):
        predictions = segment(args)
        files = (
            [write_predictions(predictions, args)]
            if args.format != 'png'
            else list(dict.fromkeys(prediction['overlay_file'] for prediction in predictions))
        )
    print('\n'.join(map(report, predictions)))
    print('\n'.join(['written:', *files]))
