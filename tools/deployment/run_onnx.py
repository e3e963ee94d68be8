"""Segment an image with an exported model: ``tools/deployment/run_onnx.py model.onnx IMAGE SENTENCE… [--out DIR]``.

Needs numpy, opencv-python-headless, tokenizers and onnxruntime, but neither torch nor OpenMMLab. It is an example: copy
`OnnxSegmenter` into your program.
"""

import argparse
import hashlib
import json
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='.onnx file')
    parser.add_argument('image')
    parser.add_argument('sentences', nargs='+')
    parser.add_argument('--out', default='.', help='folder for the masks, 255 inside and 0 outside')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import cv2
import numpy as np
from onnxruntime import InferenceSession, SessionOptions, get_available_providers
from tokenizers import Tokenizer

SETTINGS = ('input_size', 'resize_to', 'mean', 'std', 'max_length', 'pad_id', 'pad_to_max_length', 'threshold')
# What says that files belong together.
SAME = ('export', 'tokenizer_sha256')
WORDS = ('input_ids', 'attention_mask')


def read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """Read a file; raise `FileNotFoundError` or, if it is damaged, `ValueError`."""
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} not found: export_onnx.py writes NAME.onnx, NAME.json and NAME.tokenizer.json, '
            'with --split also NAME.image.onnx, which belong together'
        )
    try:
        return reader(path)
    except Exception as error:  # every library has its own errors
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f'{path} is damaged ({reason}): write it again with export_onnx.py') from error


def read_settings(path: Path) -> dict:
    settings = json.loads(path.read_text(encoding='utf-8'))
    missing = [name for name in SETTINGS + SAME if name not in settings]
    if missing:
        raise ValueError(f'it lacks {missing[0]}')
    return settings


def available_providers() -> list[str]:
    """GPU first if onnxruntime is built for one. TensorRT is left out, which takes minutes for every new shape."""
    return [name for name in get_available_providers() if 'tensorrt' not in name.lower()]


def open_graph(path: Path, providers: Sequence | None = None, threads: int = 0) -> InferenceSession:
    options = SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return InferenceSession(str(path), options, available_providers() if providers is None else list(providers))


def of_different_exports(file: Path, settings: Path) -> str:
    return (
        f'{file} and {settings} are of different exports: copy the files of one export together, or write them again '
        'with export_onnx.py'
    )


class OnnxSegmenter:
    """A model written by ``export_onnx.py``, with its accompanying files.

    Args:
        path: The .onnx file. With ``--split`` the graph of the image is beside it.
        providers: Of onnxruntime, the preferred one first; default: `available_providers`.
        threads: Threads of each graph; 0 is one for every core of the machine.

    Raises:
        FileNotFoundError: One of the files is missing.
        ValueError: One of them is damaged, or belongs to another model.
    """

    def __init__(self, path: str | Path, providers: Sequence | None = None, threads: int = 0) -> None:
        path = Path(path)
        graph = partial(open_graph, providers=providers, threads=threads)
        if path.name.endswith('.image.onnx'):
            raise ValueError(f'{path} is the graph of the image alone: name the other one, without .image')
        words, settings_file = path.with_suffix('.tokenizer.json'), path.with_suffix('.json')
        self.graph = read(path, graph)
        self.settings = read(settings_file, read_settings)
        self.tokenizer = read(words, lambda file: Tokenizer.from_file(str(file)))
        # What the graph of the image gives to the other one.
        self.trunk = self.settings.get('trunk')
        graphs = {path: self.graph}
        if self.trunk:
            image_file = path.with_suffix('.image.onnx')
            self.image_graph = graphs[image_file] = read(image_file, graph)
        for file, session in graphs.items():
            same = session.get_modelmeta().custom_metadata_map.get('export') == self.settings['export']
            # A copy of the other graph has the same export.
            if not same or (file != path and [each.name for each in session.get_inputs()] != ['image']):
                raise ValueError(of_different_exports(file, settings_file))
        if hashlib.sha256(words.read_bytes()).hexdigest() != self.settings['tokenizer_sha256']:
            raise ValueError(of_different_exports(words, settings_file))
        height, width = graphs[image_file if self.trunk else path].get_inputs()[0].shape[2:]
        if [height, width] != list(self.settings['input_size']):
            raise ValueError(
                f'{settings_file}: input_size is {self.settings["input_size"]}, and the graph takes {[height, width]}, '
                'which is fixed at export: write it again with export_onnx.py --size'
            )
        # Special tokens in a sentence are plain text.
        self.tokenizer.encode_special_tokens = True
        length = self.settings['max_length']
        self.tokenizer.enable_truncation(length)
        self.tokenizer.enable_padding(
            pad_id=self.settings['pad_id'], length=length if self.settings['pad_to_max_length'] else None
        )

    def __call__(self, image: np.ndarray, sentences: Iterable[str]) -> np.ndarray:
        """Segment an image (H, W, 3), BGR, uint8, by S sentences; return boolean masks (S, H, W).

        Raises:
            ValueError: A sentence is empty, or the image is too narrow or of another form.
        """
        return self.open(image)(sentences)

    def open(self, image: np.ndarray) -> Callable[[Iterable[str]], np.ndarray]:
        """A function from sentences about an image to masks; the graph of the image has run.

        Arguments, masks and errors are those of `__call__`.
        """
        pixels, window = self.prepare(image)
        inputs = dict(image=pixels[None])
        if self.trunk:
            inputs = dict(zip(self.trunk, self.image_graph.run(self.trunk, inputs)))
        return partial(self._segment, inputs, window, image.shape[:2])

    def _segment(
        self,
        inputs: dict[str, np.ndarray],
        window: tuple[slice, slice],
        size: tuple[int, int],
        sentences: Iterable[str],
    ) -> np.ndarray:
        encoded = self.tokenizer.encode_batch(check_sentences(sentences))
        if not self.trunk:
            inputs = dict(image=np.repeat(inputs['image'], len(encoded), 0))
        words = zip(WORDS, (np.array([getattr(item, name) for item in encoded]) for name in ('ids', 'attention_mask')))
        logits, *no_target = self.graph.run(None, inputs | dict(words))
        # Floats of the size of the image for one sentence at a time: a photo of 24 megapixels takes 96 MB.
        masks = np.empty((len(encoded), *size), bool)
        for mask, sentence_logits in zip(masks, logits):
            found = cv2.resize(sentence_logits[0][window], size[::-1], interpolation=cv2.INTER_LINEAR)
            np.greater(1 / (1 + np.exp(-found)), self.settings['threshold'], out=mask)
        for probabilities in no_target:
            masks[probabilities > self.settings['no_target_threshold']] = False
        return masks

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
        """The image resized, normalized and centered on zeros, (3, H', W'), and the rows and columns it takes."""
        check_image(image)
        long, short = max(self.settings['resize_to']), min(self.settings['resize_to'])
        scale = min(long / max(image.shape[:2]), short / min(image.shape[:2]))
        height, width = (int(side * scale + 0.5) for side in image.shape[:2])
        if not (height and width):
            raise ValueError(
                f'an image of {image.shape[1]} x {image.shape[0]} pixels is too narrow: nothing is left '
                'of it at the size at which the model works'
            )
        if height > self.settings['input_size'][0] or width > self.settings['input_size'][1]:
            raise ValueError(
                f'an image of {image.shape[1]} x {image.shape[0]} pixels becomes one of {width} x '
                f'{height}, which does not fit the input of the model: export it with a square --size'
            )
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)[..., ::-1]
        top, left = ((whole - side) // 2 for whole, side in zip(self.settings['input_size'], (height, width)))
        window = slice(top, top + height), slice(left, left + width)
        pixels = np.zeros((3, *self.settings['input_size']), np.float32)
        mean, std = (np.array(self.settings[name], np.float32) for name in ('mean', 'std'))
        pixels[(slice(None), *window)] = ((image - mean) / std).transpose(2, 0, 1)
        return pixels, window


def check_image(image: Any) -> None:
    """Raise `ValueError` if an image is not as `read_image` returns it."""
    right = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    if not right or not image.size:
        form = f'{image.dtype}, {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(
            f'an image must be an array (H, W, 3) of uint8, BGR, and not empty; this one is {form}: convert gray or '
            'RGBA with cv2.cvtColor'
        )


def check_sentences(sentences: Iterable[str]) -> list[str]:
    """Sentences as a list; raise `ValueError` if there is none, or one is empty or no text."""
    found = [] if isinstance(sentences, str) or not isinstance(sentences, Iterable) else list(sentences)
    if not found:
        raise ValueError('give a list with at least one sentence')
    other = next((sentence for sentence in found if not isinstance(sentence, str)), None)
    if other is not None:
        raise ValueError(f'{other!r} is no sentence: give a text')
    if not all(sentence.strip() for sentence in found):
        raise ValueError('a sentence is empty: say what to segment')
    return found


def free_path(folder: str, stem: str) -> Path:
    """`{stem}.png`, or with a number behind it if that is there: an image in another folder may have the same name."""
    names = chain([stem], (f'{stem}_{number}' for number in count(2)))
    return next(path for path in (Path(folder, f'{name}.png') for name in names) if not path.exists())


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write 255 inside and 0 outside, completely or not at all; the folder is created.

    Raises:
        ValueError: Writing failed.
    """
    temporary = path.with_name(f'.{path.name}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(cv2.imencode('.png', mask.astype(np.uint8) * 255)[1].tobytes())
        temporary.replace(path)
    except OSError as error:
        raise ValueError(f'{path} could not be written: {error.strerror}; make room, or name another --out') from error
    finally:
        if temporary.exists():
            temporary.unlink()


def read_image(path: str) -> np.ndarray:
    """The pixels of an image as viewers show it, BGR, uint8, (H, W, 3).

    They are decoded from bytes, because OpenCV fills the rest of a truncated JPEG with gray if it opens the file
    itself.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be decoded.
    """
    if Path(path).is_dir():
        raise ValueError(f'{path} is a folder: name one image')
    if not Path(path).is_file():
        raise FileNotFoundError(f'image {path} not found: check the path')
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # empty or too large
        image = None
    if image is None:
        raise ValueError(
            f'image {path} cannot be decoded: it is damaged or cut off, has more than 2^30 pixels, or is '
            'of a format that OpenCV does not read'
        )
    return image


def segment(args: argparse.Namespace) -> None:
    image = read_image(args.image)
    masks = OnnxSegmenter(args.model)(image, args.sentences)
    for number, mask in enumerate(masks, 1):
        path = free_path(args.out, f'{Path(args.image).stem}_mask{number}')
        write_mask(path, mask)
        print(f'{path}: {args.sentences[number - 1]}: {mask.sum()} pixels')


def main(args: argparse.Namespace) -> None:
    try:
        segment(args)
    except (OSError, ValueError) as error:
        # As in this project's tools: show the traceback.
        if os.environ.get('DIT_SAM_DEBUG') == '1':
            traceback.print_exc()
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main(ARGS)
