"""How `dit-sam infer` prints and writes its results."""

import argparse
import json
import os
import os.path as osp
import re
from collections.abc import Sequence
from typing import IO, Any

from .files import refuse


def report(prediction: dict) -> str:
    """A prediction in one line."""
    from dit_sam.errors import printable

    found = 'nothing found'
    if prediction['area']:
        found = f'score {prediction["score"]:.2f}, {prediction["area"]} pixels in {prediction["box"]}'
    file = ''.join(
        f', {kind} {prediction[f"{kind}_file"]}' for kind in ('mask', 'cutout') if f'{kind}_file' in prediction
    )
    return printable(f'{prediction["img_path"]}: {prediction["sentence"]}: {found}{file}')


def write_predictions(predictions: Sequence[dict], args: argparse.Namespace) -> str:
    """Write all predictions to one new file and return its path."""
    from dit_sam.apis import as_coco, as_json, as_npz
    from dit_sam.utils import wrap_write_errors
    from dit_sam.visualization import write_new

    stem, suffix = 'predictions', '.json'
    if args.format == 'npz':
        content, suffix = as_npz(predictions), '.npz'
    else:
        source = dict(model=args.model) if args.model else dict(config=args.config, checkpoint=args.checkpoint)
        plain = dict(source, predictions=list(map(as_json, predictions)))
        if args.format == 'coco':
            plain, stem = as_coco(predictions), 'coco'
        # Bytes of a file's name that are not UTF-8 are escapes, as JSON writes them.
        content = json.dumps(plain, ensure_ascii=False, indent=1).encode(errors='backslashreplace')
    with wrap_write_errors(args.out):
        return write_new(content, args.out, stem, suffix)


def newest_lines(folder: str) -> tuple[str, set[tuple[str, str]]]:
    """The newest file of --format jsonl in a folder, and the images and sentences in it; '' if there is none.

    A line that a killed program has left unfinished is removed.
    """
    names = [name for name in os.listdir(folder) if re.fullmatch(r'predictions_\d+\.jsonl', name)]
    if not names:
        return '', set()
    path = osp.join(folder, max(names, key=lambda name: int(name.split('_')[1].split('.')[0])))
    with open(path, 'rb+') as file:
        whole = file.read().rpartition(b'\n')[0]
        try:
            done = {(line['img_path'], line['sentence']) for line in map(json.loads, whole.splitlines())}
        except (KeyError, TypeError, ValueError):
            refuse(f'--resume: {path} is not a file that --format jsonl has written; move it away')
        file.truncate(len(whole) + bool(whole))
    return path, done


class PredictionWriter:
    """Prints predictions and writes them in the form of --format, those of an image together.

    Args:
        args: The command line.
        out: Where results are printed.
    """

    def __init__(self, args: argparse.Namespace, out: IO[str]) -> None:
        self.args, self.out = args, out
        self.predictions: list[dict] = []
        # The file of --format jsonl, and what it had when it was opened.
        self.lines, self.done = newest_lines(args.out) if args.resume and osp.isdir(args.out) else ('', set())

    def left(self, images: Sequence, sentences: Sequence[Sequence[str]]) -> list[tuple]:
        """The images, each with its sentences, for which a sentence is left to segment."""
        return [
            (image, texts)
            for image, texts in zip(images, sentences)
            if any((image, sentence) not in self.done for sentence in texts)
        ]

    def add(self, predictions: Sequence[dict], picture: Any = None) -> None:
        """Take the predictions of an image; `picture` is its RGB array, for cut-outs."""
        if self.args.format == 'cutout':
            from dit_sam.apis.results import write_cutouts

            write_cutouts(picture, predictions, self.args.out)
            predictions = [{key: value for key, value in one.items() if key != 'mask'} for one in predictions]
        predictions = [one for one in predictions if (one['img_path'], one['sentence']) not in self.done]
        print(*map(report, predictions), sep='\n', file=self.out, flush=True)
        if self.args.format != 'jsonl':
            self.predictions += predictions
            return
        from dit_sam.apis import as_json
        from dit_sam.utils import wrap_write_errors
        from dit_sam.visualization import write_new

        with wrap_write_errors(self.args.out):
            self.lines = self.lines or write_new(b'', self.args.out, 'predictions', '.jsonl')
            with open(self.lines, 'ab') as file:
                lines = [json.dumps(as_json(one), ensure_ascii=False) + '\n' for one in predictions]
                file.write(''.join(lines).encode(errors='backslashreplace'))

    def close(self) -> None:
        """Write what is left to write, and print the files."""
        files = [self.lines] * bool(self.lines)
        if self.predictions and self.args.format in ('png', 'cutout'):
            # The pictures, and the masks in a folder beside them.
            keys = ('overlay_file', 'mask_file', 'cutout_file')
            files = list(dict.fromkeys(one[key] for key in keys for one in self.predictions if key in one))
        elif self.predictions:
            files = [write_predictions(self.predictions, self.args)]
        self.predictions = []
        if files:
            print('written:', *files, sep='\n', file=self.out, flush=True)
