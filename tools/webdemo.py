"""A web page that segments pictures by sentences: ``tools/webdemo.py [--model NAME] [--port N]``.

Needs the extra `web`: ``pip install "dit-sam[web]"``. Without --host only this machine can open the page. It sends
nothing to other machines and loads nothing from them. Uploaded pictures are deleted after an hour.
"""

import argparse
import os
import os.path as osp
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from dit_sam_cli.arguments import DTYPES, MODEL, let_threads_yield
from dit_sam_cli.files import CONFIGS_ARE, check_exists
from dit_sam_cli.list_models import check_model


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', help=MODEL)
    parser.add_argument('--config', help='config file, default: the small model of the shapes data')
    parser.add_argument('--checkpoint', help='checkpoint: .pth or .safetensors, default: the weights of that model')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='bfloat16 and float16 take half the memory')
    parser.add_argument('--device', help='as in torch: cpu, cuda:1, ...; default: a GPU where there is one')
    parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0 allows every machine of the network')
    parser.add_argument('--port', type=int, help='default: the first free one from 7860 on')
    args = parser.parse_args()
    if args.port is not None and not 0 < args.port < 65536:
        parser.error(f'--port must be from 1 to 65535, got {args.port}')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()
    # Wrong combinations are refused below.
    if ARGS.model and not (ARGS.config or ARGS.checkpoint):
        check_model(ARGS.model)
    if ARGS.config and ARGS.checkpoint:
        check_exists('config', ARGS.config, CONFIGS_ARE)
        check_exists('checkpoint', ARGS.checkpoint)
    let_threads_yield()

import cv2

from dit_sam.apis import DEFAULT_CHECKPOINT, DRAWINGS_ONLY, InputError, ReferringInferencer, attention_maps
from dit_sam.datasets.reference_files import load_refs
from dit_sam.datasets.shapes import write_shapes
from dit_sam.errors import show_traceback
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import open_image, read_image
from dit_sam.visualization import draw_attention

# Before gradio is imported, which otherwise sends usage reports.
os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
try:
    import gradio as gr
except ModuleNotFoundError:
    show_traceback()
    sys.exit('error: the web page needs gradio, which is not installed: pip install "dit-sam[web]"')

MAX_BYTES, MAX_PIXELS = 20_000_000, 25_000_000
MAX_SENTENCES, MAX_CHARACTERS = 8, 200
# Long side in pixels of the overlay, and of the picture in each cell of the attention maps.
SHOWN_SIDE, ATTENTION_SIDE = 1600, 480
HOUR = 3600
DIRECTIONS = {'where the image looks at each word': 'to_text', 'where each word looks in the image': 'to_image'}
# Without Gradio's third button, which sends the picture to a hub.
BUTTONS = ['download', 'fullscreen']
COLUMNS = ['Sentence', 'Score', 'Pixels', 'Share of the picture', 'Left, top, right, bottom']
INTRODUCTION = f"""# Segment by sentence
Drop a picture and type what to look for: one sentence a line, at most {MAX_SENTENCES} sentences of {MAX_CHARACTERS}
characters. Pictures may have up to {MAX_PIXELS // 10**6} megapixels and {MAX_BYTES // 10**6} megabytes."""


@contextmanager
def errors_in_the_page(path: str | None = None) -> Iterator[None]:
    """Show the line of a user's error in the page, without the folder of the file."""
    try:
        yield
    except (InputError, FileNotFoundError) as error:
        show_traceback()
        message = str(error).replace(path or '\0', osp.basename(path or ''))
        raise gr.Error(message, duration=None, print_exception=False) from error


def check_picture(path: str | None) -> None:
    """Check that a file is a picture of an acceptable size.

    Raises:
        InputError: There is no picture, the file is not a picture, or it is too large.
    """
    if path is None:
        raise InputError('no picture yet: drop one, or use one of the examples')
    if osp.getsize(path) > MAX_BYTES:
        raise InputError(f'the picture has more than {MAX_BYTES // 10**6} megabytes: save it smaller')
    try:
        with open_image(path) as image:
            width, height = image.size
    except Exception as error:  # a damaged header may raise nearly anything
        raise InputError(f'{path} is not a picture: use a JPEG, PNG or WebP') from error
    if width * height > MAX_PIXELS:
        raise InputError(
            f'the picture has {width * height / 1e6:.0f} megapixels, more than {MAX_PIXELS // 10**6}: scale it down'
        )


def split_sentences(text: str | None) -> list[str]:
    """The lines that are not empty.

    Raises:
        InputError: There are none, or they are too many or too long.
    """
    lines = [line.strip() for line in (text or '').split('\n') if line.strip()]
    if not lines:
        raise InputError('no sentence yet: type what to look for')
    if len(lines) > MAX_SENTENCES:
        raise InputError(f'{len(lines)} sentences are too many: segment at most {MAX_SENTENCES} at a time')
    too_long = next((number for number, line in enumerate(lines, 1) if len(line) > MAX_CHARACTERS), None)
    if too_long:
        raise InputError(
            f'sentence {too_long} has {len(lines[too_long - 1])} characters: shorten it to {MAX_CHARACTERS}'
        )
    return lines


def shrink(image, side: int):
    """A picture (H, W, 3) whose long side is at most `side`."""
    scale = side / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def segment(inferencer: ReferringInferencer, path: str | None, text: str | None) -> tuple:
    """The overlay, the table, the choice of sentences of the attention tab, and no attention maps yet."""
    with errors_in_the_page(path):
        check_picture(path)
        sentences = split_sentences(text)
        result = inferencer(path, sentences, return_vis=True)
    rows = [
        [
            one['sentence'],
            round(one['score'], 3),
            one['area'],
            f'{one["area"] / one["mask"].size:.1%}',
            ', '.join(map(str, one['box'] or ['nothing found'])),
        ]
        for one in result['predictions']
    ]
    overlay = shrink(result['visualization'][0], SHOWN_SIDE)
    return overlay, rows, gr.Dropdown(choices=sentences, value=sentences[0]), None


def attend(inferencer: ReferringInferencer, path: str | None, sentence: str | None, direction: str):
    """The picture of the attention between the image and a sentence."""
    with errors_in_the_page(path):
        check_picture(path)
        image = shrink(read_image(path), ATTENTION_SIDE)
        (sentence,) = split_sentences(sentence)[:1]
        return draw_attention(image, attention_maps(inferencer, image[..., ::-1], sentence), DIRECTIONS[direction])


def make_examples(folder: str, number: int = 4) -> list[list[str]]:
    """New pictures of shapes, each with a sentence of every kind."""
    write_shapes(folder, number, seed=20261121, splits=dict(val=1.0))
    sentences = {}
    for ref in load_refs(osp.join(folder, 'shapes', 'refs(unc).p')):
        for sentence in ref['sentences']:
            sentences.setdefault(ref['image_id'], {}).setdefault(sentence['kind'], sentence['sent'])
    images = sorted(Path(folder, 'images').iterdir())
    return [[str(image), '\n'.join(sentences[image_id].values())] for image_id, image in enumerate(images, 1)]


def introduction(inferencer: ReferringInferencer) -> str:
    """The head of the page, with the names of config and weights, without their folders."""
    model = re.sub(r'[^\s,]*[/\\\\]([^\s,/\\\\]+)', r'`\1`', inferencer.source)
    notice = f'\n\n**Note:** {DRAWINGS_ONLY}.' if DEFAULT_CHECKPOINT in inferencer.source else ''
    return f'{INTRODUCTION}\n\nModel: {model}.{notice}'


def build_page(inferencer: ReferringInferencer, examples: Sequence[Sequence[str]]) -> gr.Blocks:
    """The page and what its buttons do; the model works on one request at a time."""
    with gr.Blocks(title='Segment by sentence', analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gr.Markdown(introduction(inferencer))
        with gr.Row():
            picture, text, button = question(examples)
            overlay, table, chosen, direction, look, maps = answer()
        on(button, partial(segment, inferencer), [picture, text], [overlay, table, chosen, maps])
        on(look, partial(attend, inferencer), [picture, chosen, direction], [maps])
    return page.queue(max_size=16)


def question(examples: Sequence[Sequence[str]]) -> tuple[gr.Image, gr.Textbox, gr.Button]:
    """The column of the question: picture, sentences and button."""
    with gr.Column():
        picture = gr.Image(label='Picture', type='filepath', sources=['upload', 'clipboard'], height=360)
        # Gradio would decode a picture before `check_picture` sees its size.
        picture.preprocess = lambda payload: None if payload is None else payload.path
        text = gr.Textbox(label='Sentences, one a line', lines=3, max_lines=MAX_SENTENCES, elem_id='sentences')
        button = gr.Button('Segment', variant='primary', elem_id='segment')
        gr.Examples(list(examples), [picture, text], label='Examples: shapes that the shipped model knows')
    return picture, text, button


def answer() -> tuple[gr.Image, gr.Dataframe, gr.Dropdown, gr.Radio, gr.Button, gr.Image]:
    """The column of the answer: overlay and table; sentence, direction, button and maps of the attention."""
    with gr.Column():
        with gr.Tab('Masks'):
            overlay = gr.Image(label='Masks and sentences', elem_id='overlay', format='png', buttons=BUTTONS)
            widths = ['30%', '12%', '14%', '19%', '25%']
            table = gr.Dataframe(headers=COLUMNS, elem_id='table', interactive=False, wrap=True, column_widths=widths)
        with gr.Tab('Attention'):
            chosen = gr.Dropdown([], label='Sentence, once segmented', elem_id='chosen')
            direction = gr.Radio(list(DIRECTIONS), value=list(DIRECTIONS)[0], label='Direction')
            look = gr.Button('Look', elem_id='look')
            maps = gr.Image(show_label=False, elem_id='maps', format='png', buttons=BUTTONS)
    return overlay, table, chosen, direction, look, maps


def on(button: gr.Button, function: Callable, inputs: Sequence, outputs: Sequence) -> None:
    """Let a button call a function that uses the model; calls run one at a time."""
    button.click(
        function, list(inputs), list(outputs), concurrency_limit=1, concurrency_id='model', api_visibility='private'
    )


def check_address(host: str, port: int | None) -> None:
    """Check that the page can be served, because Gradio would wait forever if it cannot listen.

    Raises:
        InputError: This machine has no such address, or the port is taken.
    """
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        socket.create_server((host, port or 0), family=family).close()
    except (OSError, UnicodeError) as error:
        raise InputError(
            f'{host}, port {port or "any"}, cannot be served: {getattr(error, "strerror", "") or error}; '
            'name another --host or --port'
        ) from error


def main(args: argparse.Namespace) -> None:
    with one_line_errors(), TemporaryDirectory(prefix='dit_sam_web_') as folder:
        if args.model and (args.config or args.checkpoint):
            raise InputError('--model brings its config and weights: leave out --config and --checkpoint')
        if args.config and not args.checkpoint:
            raise InputError('--config without --checkpoint: name the weights of that config')
        check_address(args.host, args.port)
        options = dict(device=args.device, show_progress=False, dtype=args.dtype)
        if args.model:
            inferencer = ReferringInferencer.from_pretrained(args.model, **options)
        else:
            inferencer = ReferringInferencer(args.config, args.checkpoint, **options)
        page = build_page(inferencer, make_examples(osp.join(folder, 'examples')))
        try:
            # Gradio's own theme would fetch fonts.
            page.launch(
                server_name=args.host,
                server_port=args.port,
                share=False,
                ssr_mode=False,
                footer_links=[],
                max_file_size=MAX_BYTES,
                theme=gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace']),
            )
        except OSError as error:
            raise InputError(f'{args.host}, port {args.port or "any"}, cannot be served: {error}') from error


if __name__ == '__main__':
    main(ARGS)
