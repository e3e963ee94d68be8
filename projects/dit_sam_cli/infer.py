"""`dit-sam infer` and tools/infer.py: segment images by sentences."""

import argparse
import csv
import os
import os.path as osp
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

from .arguments import DTYPES, MODEL, let_threads_yield
from .files import CONFIGS_ARE, check_exists, refuse
from .list_models import check_model
from .prediction_writer import PredictionWriter

# As in `dit_sam.apis.inputs`.
IMAGE_SUFFIXES = tuple('.avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pgm .png .ppm .tif .tiff .webp'.split())

DESCRIPTION = """Segment images by sentences.

An argument that is an existing file or folder, or ends like an image file, is an image; every other argument is a
sentence. Each image is segmented by each sentence. With --pairs, a file says which sentences are for which image."""
FORMATS = """png: the images with masks and sentences drawn over them, and the masks; json: one file with boxes, scores
and masks as COCO RLE; jsonl: the same as a line of JSON for each, written as soon as it is there; coco: a COCO data
set; npz: one file with the masks as boolean arrays; cutout: each object alone on a transparent background"""


def parse_args(arguments: Sequence[str] | None, program: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('arguments', nargs='*', metavar='IMAGE… SENTENCE…', help='images, folders and sentences')
    add(
        '--pairs',
        metavar='FILE',
        help='CSV file with the columns image and sentence, in place of arguments; images are relative to its folder',
    )
    add('--model', help=MODEL)
    add('--config', help='config file, default: the small model of the shapes data')
    add('--checkpoint', help='checkpoint: .pth or .safetensors, default: the weights of that model')
    add('--out', default='work_dirs/infer', help='folder for the results; nothing in it is replaced')
    add('--dtype', choices=DTYPES, default='float32', help='bfloat16 and float16 take half the memory')
    add('--device', help='as in torch: cpu, cuda:1, ...; default: a GPU if there is one')
    add('--format', choices=['png', 'json', 'jsonl', 'coco', 'npz', 'cutout'], default='png', help=FORMATS)
    add('--resume', action='store_true', help='with --format jsonl, continue the newest file of --out')
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
    add('--interactive', action='store_true', help='read sentences from the terminal, one a line, for one image')
    add('--threshold', type=float, help="probability above which a pixel is inside; default: the model's")
    add('--batch-size', type=int, default=1, help='pairs of image and sentence at a time')
    add('--font', help='.ttf or .otf file for the sentences in the pictures; default: an installed one that has them')
    # Images and sentences may come before and after the options.
    return parser.parse_intermixed_args(arguments)


def check_args(args: argparse.Namespace) -> None:
    """Refuse what needs no model to be refused; separate `images` and `sentences`, and parse points and boxes.

    `sentences` are those of every image or, with --pairs, a list for each.
    """
    if args.pairs:
        if args.arguments or args.interactive:
            refuse('--pairs names the images and sentences: leave out other ones, and --interactive')
        args.images, args.sentences = read_pairs(args.pairs)
    else:
        args.images, args.sentences = sort_arguments(args.arguments, args.interactive)
    for image in args.images:
        check_exists('image', image)
    if args.model and (args.config or args.checkpoint):
        refuse('--model brings its config and weights: leave out --config and --checkpoint')
    if args.model:
        check_model(args.model)
    if args.config and not args.checkpoint:
        refuse('--config without --checkpoint: name the weights that belong to that config')
    if args.config:
        check_exists('config', args.config, CONFIGS_ARE)
    if args.checkpoint:
        check_exists('checkpoint', args.checkpoint)
    if args.font:
        check_exists('font', args.font, 'name a .ttf or .otf file')
    if args.resume and args.format != 'jsonl':
        refuse('--resume continues a file of --format jsonl: add that, or leave --resume out')
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        refuse(f'--threshold is a probability from 0 to 1, got {args.threshold:g}')
    if args.batch_size < 1:
        refuse(f'--batch-size must be 1 or more, got {args.batch_size}')
    args.points, args.boxes = read_numbers(args.points, '--points'), read_numbers(args.boxes, '--boxes')


def sort_arguments(arguments: Sequence[str], interactive: bool = False) -> tuple[list[str], list[str]]:
    """Separate images (files, folders) from sentences; refuse if one of the two is missing.

    In interactive use there must be one image file, and sentences come later.
    """
    is_image = [osp.exists(text) or text.lower().endswith(IMAGE_SUFFIXES) for text in arguments]
    images = [text for text, image in zip(arguments, is_image) if image]
    sentences = [text for text, image in zip(arguments, is_image) if not image]
    if not arguments:
        refuse('name images and sentences, or a file with both by --pairs')
    if not images:
        refuse(
            f'no image among the arguments: {arguments[0]!r} is not a file or folder, and does not end in any of '
            f'{", ".join(IMAGE_SUFFIXES)}'
        )
    if interactive:
        if len(images) != 1 or sentences or osp.isdir(images[0]):
            refuse('--interactive takes one image file and no sentences: it asks for them')
    elif not sentences:
        refuse(f'no sentence among the arguments: {arguments[-1]!r} is a file or folder; say what to segment')
    return images, sentences


def read_pairs(path: str) -> tuple[list[str], list[list[str]]]:
    """The images of a CSV file and the sentences of each, in its order; refuse a file that is not of this form."""
    check_exists('file of pairs', path)
    pairs: dict[str, list[str]] = {}
    try:
        # Spreadsheets put a mark of the byte order first.
        with open(path, encoding='utf-8-sig', newline='') as file:
            rows = csv.DictReader(file, strict=True)
            missing = {'image', 'sentence'} - set(rows.fieldnames or ())
            if missing:
                refuse(f'--pairs {path} has no column {" or ".join(sorted(missing))}: its first line names the columns')
            for row in rows:
                image, sentence = read_pair(row, path, rows.line_num)
                pairs.setdefault(image, []).append(sentence)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        refuse(f'--pairs {path} cannot be read as CSV in UTF-8: {error}')
    if not pairs:
        refuse(f'--pairs {path} has no line after the names of the columns')
    return list(pairs), list(pairs.values())


def read_pair(row: Mapping[str, str | None], path: str, line: int) -> tuple[str, str]:
    """The image, with its folder, and the sentence of a row of --pairs; refuse what is neither."""
    image, sentence = row['image'] or '', row['sentence'] or ''
    if not (image.strip() and sentence.strip()):
        refuse(f'--pairs {path}, line {line}: image or sentence is empty')
    image = image if '://' in image else osp.join(osp.dirname(path), image)
    if osp.isdir(image):
        refuse(f'--pairs {path}, line {line}: {image} is a folder; name one image a line')
    return image, sentence


def read_numbers(text: str | None, option: str) -> list[list[float]] | None:
    """Parse "10,20 30,40" into groups of numbers, or refuse it; None stays None."""
    if text is None:
        return None
    try:
        groups = [[float(number) for number in group.split(',')] for group in text.split()]
    except ValueError:
        groups = []
    if not groups:
        refuse(f'{option} {text!r} is not groups of numbers like "10,20 30,40": commas within a group, blanks between')
    return groups


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Within the block, importing a module that is not imported yet fails as if it were not installed."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def import_packages() -> None:
    """Import dit_sam into the program's own process, without some 0.3 s of what no inference needs.

    mmengine.optim registers the optimizer Adafactor of transformers if that is installed. This alone imports the
    trainer of transformers and, where it is installed, peft. Both can be imported afterwards.
    """
    let_threads_yield()
    # If mmengine is not installed, dit_sam says so.
    with suppress(ModuleNotFoundError), hidden('transformers'):
        import mmengine.optim  # noqa: F401
    import dit_sam  # noqa: F401


def open_model(args: argparse.Namespace) -> Any:
    """The `ReferringInferencer` for a command line that `check_args` has read; errors as there."""
    from dit_sam.apis import DEFAULT_CHECKPOINT, DEFAULT_CONFIG, ReferringInferencer
    from dit_sam.utils import check_folder

    args.config, args.checkpoint = args.config or DEFAULT_CONFIG, args.checkpoint or DEFAULT_CHECKPOINT
    check_folder(args.out)
    options = dict(device=args.device, dtype=args.dtype)
    if args.model:
        inferencer = ReferringInferencer.from_pretrained(args.model, **options)
    else:
        inferencer = ReferringInferencer(args.config, args.checkpoint, **options)
    if args.threshold is not None:
        head = inferencer.model.decode_head
        if getattr(head, 'out_channels', 1) != 1:
            refuse('--threshold is for heads with one channel of probabilities: leave it out for this model')
        head.threshold = args.threshold
    return inferencer


def segment(
    args: argparse.Namespace,
    inferencer: Any,
    images: Sequence,
    sentences: Sequence[Sequence[str]],
    writer: PredictionWriter,
) -> list[Exception]:
    """Segment each image by its sentences; return what is wrong with images, if others can be used.

    What is done is written also if the program is interrupted.
    """
    points, boxes = args.points, args.boxes
    # One box is for all sentences.
    image_boxes = boxes[0] if boxes is not None and len(boxes) == 1 else boxes
    results = inferencer.stream(
        images,
        sentences,
        points and [points] * len(images),
        image_boxes and [image_boxes] * len(images),
        batch_size=args.batch_size,
        return_masks='array' if args.format in ('npz', 'cutout') else 'rle',
        out_dir=args.out if args.format == 'png' else '',
        font=args.font,
    )
    errors = []
    try:
        for result in results:
            if result.error is None:
                # Read again, which is little beside the model.
                picture = inferencer.load(result.name) if args.format == 'cutout' else None
                writer.add(result.predictions, picture)
            else:
                errors.append(result.error)
    finally:
        writer.close()
    if errors and len(errors) == len(images) and not writer.done:
        raise errors[0]
    return errors


def ask(args: argparse.Namespace, inferencer: Any, writer: PredictionWriter) -> None:
    """Segment the one image by each sentence that is typed; an empty line or the end of the input ends."""
    image = inferencer.open(args.images[0])
    print('type a sentence; an empty line quits', file=sys.stderr, flush=True)
    for line in iter(sys.stdin.readline, ''):
        if not line.strip():
            break
        try:
            segment(args, inferencer, [image], [[line.strip()]], writer)
        except ValueError as error:  # what is wrong with one sentence ends only that
            print(f'error: {error}', file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> None:
    """Run a command line, by default the program's own; exit with 1 and one line on stderr for bad input."""
    args = parse_args(arguments, program)
    check_args(args)
    out = sys.stdout
    # What packages print goes to stderr, so that stdout has only the results.
    with redirect_stdout(sys.stderr):
        import_packages()
        from dit_sam.mmengine_extras.diagnostics import one_line_errors

        with one_line_errors():
            from dit_sam.apis import list_images

            note_other_files(args.images)
            images = list_images(args.images)
            inferencer = open_model(args)
            writer = PredictionWriter(args, out)
            if args.interactive:
                ask(args, inferencer, writer)
                return
            sentences = args.sentences if args.pairs else [args.sentences] * len(images)
            errors = []
            if left := writer.left(images, sentences):
                pictures, texts = zip(*left)
                errors = segment(args, inferencer, pictures, texts, writer)
    if errors:
        refuse(f'{len(errors)} of {len(images)} images left out: {"; ".join(map(str, errors))}')


def note_other_files(paths: Sequence[str]) -> None:
    """Say on stderr which files of folders are not taken for images."""
    for folder in filter(osp.isdir, paths):
        names = sorted(name for name in os.listdir(folder) if name[0] != '.' and osp.isfile(osp.join(folder, name)))
        others = [name for name in names if not name.lower().endswith(IMAGE_SUFFIXES)]
        if others:
            print(f'{folder}: {len(others)} other files are not read, such as {others[0]}', file=sys.stderr)
