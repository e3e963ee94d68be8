"""Segment a picture with an exported model: ``tools/deployment/run_onnx.py model.onnx IMAGE SENTENCE… [--out DIR]``.

Needs numpy, opencv-python, tokenizers and onnxruntime, and neither torch nor OpenMMLab. It is an example: take
`OnnxSegmenter` into your program.
"""
import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from onnxruntime import InferenceSession, SessionOptions
from tokenizers import Tokenizer


class OnnxSegmenter:
    """A model written by ``export_onnx.py``, with the two files beside it.

    Args:
        path: The .onnx file.
    """

    def __init__(self, path: str | Path) -> None:
        options = SessionOptions()
        options.log_severity_level = 3
        self.session = InferenceSession(str(path), options)
        self.settings = json.loads(Path(path).with_suffix('.json').read_text(encoding='utf-8'))
        self.tokenizer = Tokenizer.from_file(str(Path(path).with_suffix('.tokenizer.json')))
        length = self.settings['max_length']
        self.tokenizer.enable_truncation(length)
        self.tokenizer.enable_padding(
            pad_id=self.settings['pad_id'], length=length if self.settings['pad_to_max_length'] else None)

    def __call__(self, image: np.ndarray, sentences: Sequence[str]) -> np.ndarray:
        """Boolean masks (S, H, W) of what each of S sentences means in an image (H, W, 3), BGR, uint8."""
        pixels, window = self.prepare(image)
        encoded = self.tokenizer.encode_batch(list(sentences))
        logits, *no_target = self.session.run(None, dict(
            image=np.repeat(pixels[None], len(encoded), 0),
            input_ids=np.array([item.ids for item in encoded]),
            attention_mask=np.array([item.attention_mask for item in encoded])))
        found = [sentence_logits[0][window] for sentence_logits in logits]
        found = [cv2.resize(one, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) for one in found]
        masks = 1 / (1 + np.exp(-np.stack(found))) > self.settings['threshold']
        for probabilities in no_target:
            masks[probabilities > self.settings['no_target_threshold']] = False
        return masks

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
        """The image resized, normalised and in the middle of zeros, (3, H', W'), and the rows and columns it takes."""
        long, short = max(self.settings['resize_to']), min(self.settings['resize_to'])
        scale = min(long / max(image.shape[:2]), short / min(image.shape[:2]))
        height, width = (int(side * scale + 0.5) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)[..., ::-1]
        top, left = ((whole - side) // 2 for whole, side in zip(self.settings['input_size'], (height, width)))
        window = slice(top, top + height), slice(left, left + width)
        pixels = np.zeros((3, *self.settings['input_size']), np.float32)
        mean, std = (np.array(self.settings[name], np.float32) for name in ('mean', 'std'))
        pixels[:, *window] = ((image - mean) / std).transpose(2, 0, 1)
        return pixels, window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='.onnx file')
    parser.add_argument('image')
    parser.add_argument('sentences', nargs='+')
    parser.add_argument('--out', default='.', help='folder for the masks, 255 inside and 0 outside')
    args = parser.parse_args()
    image = cv2.imread(args.image)
    if image is None:
        raise SystemExit(f'error: image {args.image} is not there or cannot be decoded')
    Path(args.out).mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(OnnxSegmenter(args.model)(image, args.sentences), 1):
        path = Path(args.out, f'{Path(args.image).stem}_mask{number}.png')
        cv2.imwrite(str(path), mask.astype(np.uint8) * 255)
        print(f'{path}: {args.sentences[number - 1]}: {mask.sum()} pixels')


if __name__ == '__main__':
    main()
