"""The layout of the page, and what happens when a visitor presses a button or clicks on the picture."""

import os
import os.path as osp
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..apis import InputError, ReferringInferencer
from ..errors import show_traceback
from .answers import DIRECTIONS, Answers
from .hosts import CheckHost, allowed_names, bracketed
from .questions import MAX_BYTES, MAX_CHARACTERS, MAX_PIXELS, MAX_SENTENCES, Point

# Before gradio is imported, which otherwise sends usage reports.
os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
import gradio as gr
from starlette.middleware import Middleware

# Uploads are deleted when they are an hour old; the seconds between two looks for such ones.
HOUR, SWEEP = 3600, 300
# Without Gradio's third button, which sends the picture to a hub.
BUTTONS: Any = ['download', 'fullscreen']
COLUMNS = ['Sentence', 'Score', 'Pixels', 'Share of the picture', 'Left, top, right, bottom']
WIDTHS: Any = ['30%', '12%', '14%', '19%', '25%']
LIMITS = f"""Pictures may have up to {MAX_PIXELS // 10**6} megapixels and {MAX_BYTES // 10**6} megabytes."""
SENTENCES = f"""Drop a picture and type what to look for: one sentence a line, at most {MAX_SENTENCES} sentences of
{MAX_CHARACTERS} characters."""
CLICKS = 'Click on the picture to say which pixels belong to the object, and which do not.'
# Inside and outside the object, as the model's labels.
LABELS = {'inside the object': 1, 'outside it': 0}


@contextmanager
def errors_in_the_page(path: str | None = None) -> Iterator[None]:
    """Show the line of a user's error in the page, without the folder of the file."""
    try:
        yield
    except (InputError, OSError) as error:
        show_traceback()
        message = str(error).replace(path or '\0', osp.basename(path or ''))
        raise gr.Error(message, duration=None, print_exception=False) from error


class Page:
    """The page of a model.

    Args:
        inferencer: The model.
        examples: Picture and sentences of each example.

    Attributes:
        blocks: The page, to be launched; the model works on one request at a time.
    """

    def __init__(self, inferencer: ReferringInferencer, examples: Sequence[Sequence[str]]) -> None:
        # Gradio deletes the files of its own folder.
        self.answers = Answers(inferencer, gr.File().GRADIO_CACHE)
        blocks = gr.Blocks(title='Segment by sentence', analytics_enabled=False, delete_cache=(SWEEP, HOUR))
        with blocks:
            gr.Markdown(self.introduction())
            with gr.Row():
                with gr.Column():
                    self._question(examples)
                with gr.Column():
                    self._answer()
            self._events()
        self.blocks = blocks.queue(max_size=16)

    def introduction(self) -> str:
        """The head of the page; Markdown."""
        parts = [
            SENTENCES if self.answers.reads_text else 'Drop a picture.',
            CLICKS if self.answers.takes_points else '',
        ]
        return f'# Segment by sentence\n{" ".join(filter(None, parts))} {LIMITS}\n\n{self.answers.introduction}'

    def _question(self, examples: Sequence[Sequence[str]]) -> None:
        """Picture, points, sentences and button."""
        self.picture = gr.Image(label='Picture', type='filepath', sources=['upload', 'clipboard'], height=360)
        # Gradio would decode a picture before `check_picture` sees its size.
        self.picture.preprocess = lambda payload: None if payload is None else payload.path  # type: ignore
        # Gradio fetches addresses, of any size, before `check_picture` refuses them.
        move = self.picture.async_move_resource_to_block_cache

        async def move_file(path: Any) -> str | None:
            if '://' in str(path):
                raise gr.Error('a picture is a file: drop one')
            return await move(path)

        self.picture.async_move_resource_to_block_cache = move_file  # type: ignore
        self.points = gr.State([])
        with gr.Row(visible=self.answers.takes_points):
            self.label = gr.Radio(list(LABELS), value=list(LABELS)[0], label='A click is', elem_id='label')
            self.remove = gr.Button('Remove points', elem_id='remove')
        self.listed = gr.Markdown(visible=self.answers.takes_points, elem_id='points')
        reads = self.answers.reads_text
        self.text = gr.Textbox(
            label='Sentences, one a line', lines=3, max_lines=MAX_SENTENCES, elem_id='sentences', visible=reads
        )
        self.button = gr.Button('Segment', variant='primary', elem_id='segment')
        inputs = [self.picture, self.text][: 1 + reads]
        shown = [example[: len(inputs)] for example in examples]
        gr.Examples(
            shown, inputs, label=f'Examples: shapes{", which the shipped model knows" * self.answers.is_shipped}'
        )

    def _answer(self) -> None:
        """Masks as picture, table and files; sentence, direction, button and picture of the attention."""
        with gr.Tab('Masks'):
            self.overlay = gr.Image(label='Masks and sentences', elem_id='overlay', format='png', buttons=BUTTONS)
            self.table = gr.Dataframe(
                headers=COLUMNS, elem_id='table', interactive=False, wrap=True, column_widths=WIDTHS
            )
            self.files = gr.File(
                label='Masks as PNG, and all of them as COCO JSON',
                file_count='multiple',
                interactive=False,
                elem_id='files',
            )
        with gr.Tab('Attention', visible=self.answers.has_attention):
            self.chosen = gr.Dropdown([], label='Sentence, once segmented', elem_id='chosen')
            self.direction = gr.Radio(list(DIRECTIONS), value=list(DIRECTIONS)[0], label='Direction')
            self.look = gr.Button('Look', elem_id='look')
            self.maps = gr.Image(show_label=False, elem_id='maps', format='png', buttons=BUTTONS)

    def _events(self) -> None:
        question = [self.picture, self.text, self.points]
        answer = [self.overlay, self.table, self.files, self.chosen, self.maps]
        with_model: dict[str, Any] = dict(concurrency_limit=1, concurrency_id='model', api_visibility='private')
        alone: dict[str, Any] = dict(queue=False, api_visibility='private')
        asked: Any = [self.button.click(self.segment, question, answer, **with_model)]
        self.look.click(self.attend, [self.picture, self.chosen, self.direction], [self.maps], **with_model)
        if self.answers.takes_points:
            shown = [self.points, self.listed]
            clicked = self.picture.select(add_point, [self.points, self.label], shown, **alone)
            # Always the last one: a click during an answer is asked after it.
            asked.append(clicked.then(self.segment, question, answer, trigger_mode='always_last', **with_model))
            for event in (self.picture.change, self.remove.click):
                event(lambda: show([]), None, shown, **alone)
        # An answer belongs to its picture.
        empty = [None, None, None, gr.Dropdown([], value=None), None]
        self.picture.change(lambda: empty, None, answer, cancels=asked, **alone)

    def segment(self, path: str | None, text: str | None, points: list[Point]) -> tuple:
        """The overlay, the table, the files, the choice of sentences of the attention tab, and no attention yet."""
        with errors_in_the_page(path):
            answer = self.answers.segment(path, text, points)
        if answer.cut:
            gr.Warning(answer.cut, duration=None)
        chosen = gr.Dropdown(choices=answer.sentences, value=answer.sentences[0])
        return answer.overlay, answer.rows, answer.files, chosen, None

    def attend(self, path: str | None, sentence: str | None, direction: str) -> Any:
        """The picture of the attention between the picture and a sentence."""
        with errors_in_the_page(path):
            return self.answers.attend(path, sentence, direction)


def add_point(points: list[Point], label: str, click: gr.SelectData) -> tuple[list[Point], str]:
    """The points with a new one where the visitor clicked, and their list."""
    x, y = click.index
    return show([*points, (round(x), round(y), LABELS[label])])


def show(points: list[Point]) -> tuple[list[Point], str]:
    """Points, and their list in Markdown."""
    names = {value: name for name, value in LABELS.items()}
    lines = [f'{number}. {x}, {y}: {names[label]}' for number, (x, y, label) in enumerate(points, 1)]
    return points, '\n'.join(lines)


def launch(page: Page, host: str, port: int | None, **options: Any) -> Any:
    """Serve the page until the program ends; nothing comes from other machines."""
    names = allowed_names(host)
    return page.blocks.launch(
        server_name=bracketed(host),
        server_port=port,
        share=False,
        ssr_mode=False,
        footer_links=[],
        max_file_size=MAX_BYTES,
        app_kwargs=dict(middleware=[Middleware(CheckHost, names=names)] if names else []),
        # Gradio's own theme would fetch fonts.
        theme=gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace']),
        **options,
    )
