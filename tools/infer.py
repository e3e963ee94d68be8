"""Segment pictures by sentences: ``tools/infer.py IMAGE… SENTENCE… [options]``.

An argument that is an existing file or folder, or ends like an image file, is an image; every other one is a sentence.
Every sentence is asked of every image.
"""
import argparse
import json
import os.path as osp
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout

from dit_sam.apis import (DEFAULT_CHECKPOINT, DEFAULT_CONFIG, IMAGE_SUFFIXES, InputError, ReferringInferencer, as_json,
                          list_images)
from dit_sam.engine.launch import one_line_errors
from dit_sam.visualization import write_new


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('arguments', nargs='+', metavar='IMAGE… SENTENCE…', help='images, folders and sentences')
    parser.add_argument('--config', help='config file, default: the small model of the shapes data')
    parser.add_argument('--checkpoint', help='checkpoint: .pth or .safetensors, default: the weights of that model')
    parser.add_argument('--out', default='work_dirs/infer', help='folder for the results; nothing in it is replaced')
    parser.add_argument('--device', help='as in torch: cpu, cuda:1, ...; default: a GPU where there is one')
    parser.add_argument('--format', choices=['png', 'json'], default='png',
                        help='png: pictures with masks and sentences drawn over them, and the masks; json: one file '
                        'with boxes, scores and masks as COCO RLE')
    parser.add_argument('--batch-size', type=int, default=1, help='pairs of image and sentence at a time')
    parser.add_argument('--font', help='.ttf or .otf file for the sentences in the pictures; the default has Latin, '
                        'Greek and Cyrillic letters, others need one')
    # Images and sentences may stand on both sides of the options.
    return parser.parse_intermixed_args()


def sort_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Images (files, folders) and sentences among the arguments.

    Raises:
        InputError: One of the two is missing.
    """
    images = [text for text in arguments if osp.exists(text) or text.lower().endswith(IMAGE_SUFFIXES)]
    sentences = [text for text in arguments if text not in images]
    if not images:
        raise InputError(f'no image among the arguments: {arguments[0]!r} is no file or folder, and ends in none of '
                         f'{", ".join(IMAGE_SUFFIXES)}')
    if not sentences:
        raise InputError(f'no sentence among the arguments: {arguments[-1]!r} is a file or folder; say what to segment')
    return images, sentences


def report(prediction: dict) -> str:
    """A prediction in a line."""
    found = 'nothing found'
    if prediction['area']:
        found = f"score {prediction['score']:.2f}, {prediction['area']} pixels in {prediction['box']}"
    return f"{prediction['img_path']}: {prediction['sentence']}: {found}"


def write_json(predictions: Sequence[dict], args: argparse.Namespace) -> str:
    """Write the predictions and where they come from into one new file; its path."""
    content = dict(
        config=args.config, checkpoint=args.checkpoint, predictions=[as_json(prediction) for prediction in predictions])
    text = json.dumps(content, ensure_ascii=False, indent=1)
    return write_new(text.encode(), args.out, 'predictions', '.json')


def main() -> None:
    args = parse_args()
    # mmseg's losses warn of defaults that matter in training only.
    warnings.filterwarnings('ignore', category=UserWarning, module='mmseg')
    # What mmengine reports goes to stderr, so that stdout has the results alone.
    with one_line_errors(InputError), redirect_stdout(sys.stderr):
        images, sentences = sort_arguments(args.arguments)
        if args.config and not args.checkpoint:
            raise InputError('--config without --checkpoint: name the weights that belong to that config')
        args.config, args.checkpoint = args.config or DEFAULT_CONFIG, args.checkpoint or DEFAULT_CHECKPOINT
        images = list_images(images)
        inferencer = ReferringInferencer(
            args.config, args.checkpoint, args.device, show_progress=sys.stderr.isatty())
        predictions = inferencer(
            images, [sentences] * len(images), args.batch_size, out_dir=args.out if args.format == 'png' else '',
            font=args.font)['predictions']
        files = [write_json(predictions, args)] if args.format == 'json' else list(
            dict.fromkeys(prediction['overlay_file'] for prediction in predictions))
    print('\n'.join(map(report, predictions)))
    print('\n'.join(['written:', *files]))


if __name__ == '__main__':
    main()
