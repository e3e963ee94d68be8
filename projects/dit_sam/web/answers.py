"""What the page answers: masks as a picture, a table and files, and the attention between picture and words."""

import json
import os.path as osp
import re
from typing import Any, NamedTuple
from uuid import uuid4

import cv2
import numpy as np

from ..apis import DEFAULT_CHECKPOINT, DRAWINGS_ONLY, KeptImages, ReferringInferencer, as_coco, attention_maps
from ..apis.prompts import trains_with_prompts
from ..utils import read_image, wrap_write_errors
from ..visualization import draw_attention, file_stem, write_image, write_new
from .questions import Point, check_picture, check_question, split_sentences

# Long side in pixels of the overlay, and of the picture in each cell of the attention maps.
SHOWN_SIDE, ATTENTION_SIDE = 1600, 480
DIRECTIONS = {'where the image looks at each word': 'to_text', 'where each word looks in the image': 'to_image'}


class Answer(NamedTuple):
    """An answer.

    Attributes:
        sentences: What was asked.
        overlay: The picture with masks and legend, RGB.
        rows: Sentence, score, pixels, share of the picture, and the corners of the box.
        files: Paths of the masks as PNG, and of a COCO data set.
        cut: Which sentences are longer than the model reads; empty if none is.
    """

    sentences: list[str]
    overlay: np.ndarray
    rows: list[list]
    files: list[str]
    cut: str


class Answers:
    """Answers by a model, which keeps the pictures open that were asked about last.

    Args:
        inferencer: The model.
        folder: Where files for download are written.

    Attributes:
        open: Opens a picture, or gives the one that is open.
        reads_text: Whether the model reads sentences.
        has_attention: Whether it has attention between picture and words.
        is_shipped: Whether it is the model that comes with the project.
        takes_points: Whether it takes points, and was trained with them.
    """

    def __init__(self, inferencer: ReferringInferencer, folder: str) -> None:
        self.inferencer, self.folder = inferencer, folder
        self.open = KeptImages(inferencer.open)
        self.reads_text = getattr(inferencer.model, 'text_encoder', None) is not None
        head = inferencer.model.decode_head
        instructed = getattr(inferencer.model.backbone, 'instruction', None) is not None
        self.has_attention = self.reads_text and (instructed or not getattr(head, 'pooled_prompt', True))
        self.is_shipped = DEFAULT_CHECKPOINT in inferencer.source
        self.takes_points = trains_with_prompts(inferencer.model.decode_head) and inferencer.pipeline.stage.shares

    @property
    def introduction(self) -> str:
        """The names of config and weights, without their folders, and what the shipped model is for; Markdown."""
        model = re.sub(
            r'(config|weights) ([^,]*)', lambda found: f'{found[1]} {_file(found[2])}', self.inferencer.source
        )
        notice = f'\n\n**Note:** {DRAWINGS_ONLY}.' if self.is_shipped else ''
        return f'Model: {model}.{notice}'

    def segment(self, path: str | None, text: str | None, points: list[Point]) -> Answer:
        """Segment a picture by the lines of a text and by points, which count for each of them.

        Raises:
            InputError: The question is incomplete or too large, or the picture cannot be decoded.
        """
        path = check_picture(path)
        sentences = check_question(split_sentences(text), points, self.reads_text)
        result = self.open(path)(sentences, points=points or None, return_vis=True)
        overlay = shrink(result['visualization'][0], SHOWN_SIDE)
        found = result['predictions']
        files = self._write(osp.basename(path), found)
        return Answer(sentences, overlay, list(map(_row, found)), files, self._cut(sentences))

    def attend(self, path: str | None, sentence: str | None, direction: str) -> np.ndarray:
        """The picture of the attention between a picture and a sentence, in a direction of `DIRECTIONS`.

        Raises:
            InputError: As in `segment`, or the model has no such attention.
        """
        path = check_picture(path)
        sentence = check_question(split_sentences(sentence), [], True)[0]
        image = shrink(read_image(path), ATTENTION_SIDE)
        return draw_attention(image, attention_maps(self.inferencer, image[..., ::-1], sentence), DIRECTIONS[direction])

    def _cut(self, sentences: list[str]) -> str:
        """A line about the sentences of which the model does not read the end; it names no text of a visitor."""
        if not self.reads_text:
            return ''
        encoder = self.inferencer.model.text_encoder
        lengths = enumerate(encoder.lengths(sentences), 1)
        numbers = [str(number) for number, length in lengths if length > encoder.max_length]
        if not numbers:
            return ''
        return (
            f'The end of sentence {", ".join(numbers)} was not read: this model reads {encoder.max_length} tokens, '
            'which are words or parts of words. Shorten it.'
        )

    def _write(self, name: str, predictions: list[dict[str, Any]]) -> list[str]:
        # A name that cannot be guessed; the folder itself may have been cleaned away.
        folder = osp.join(self.folder, uuid4().hex)
        masks = [(one['mask'].astype(np.uint8) * 255, file_stem(name, one['sentence'])) for one in predictions]
        # The name of the upload, without its folder on the server.
        coco = as_coco([dict(one, img_path=name) for one in predictions])
        with wrap_write_errors('the masks'):
            files = [write_image(mask, folder, stem) for mask, stem in masks]
            return [*files, write_new(json.dumps(coco, indent=1).encode(), folder, f'{file_stem(name)}_coco', '.json')]


def _file(path: str) -> str:
    """The name of a file in Markdown, without its folders; other texts stay."""
    parts = re.split(r'[/\\]', path)
    return f'`{parts[-1]}`' if len(parts) > 1 else path


def _row(prediction: dict[str, Any]) -> list:
    share = f'{prediction["area"] / prediction["mask"].size:.1%}'
    box = ', '.join(map(str, prediction['box'] or ['nothing found']))
    return [prediction['sentence'], round(prediction['score'], 3), prediction['area'], share, box]


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """A picture (H, W, 3) whose long side is at most `side`."""
    scale = side / max(image.shape[:2])
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
