"""A web page that segments pictures by sentences: ``tools/webdemo.py [--model NAME] [--port N]``.

Needs the extra `web`: ``pip install "dit-sam[web]"``. Without --host only this machine can open the page. It sends
nothing to other machines and loads nothing from them. Uploaded pictures are deleted after about an hour, and at the
end.
"""

import argparse
import os
import os.path as osp
from importlib import import_module
from pathlib import Path
from types import ModuleType

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
    # As in an address.
    args.host = args.host.removeprefix('[').removesuffix(']')
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

from dit_sam.apis import InputError, ReferringInferencer
from dit_sam.datasets.reference_files import load_refs
from dit_sam.datasets.shapes import write_shapes
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.web.folders import end_by_signals, page_folder
from dit_sam.web.hosts import check_address


def make_examples(folder: str, number: int = 4) -> list[list[str]]:
    """New pictures of shapes, each with a sentence of every kind."""
    write_shapes(folder, number, seed=20261121, splits=dict(val=1.0))
    sentences = {}
    for ref in load_refs(osp.join(folder, 'shapes', 'refs(unc).p')):
        for sentence in ref['sentences']:
            sentences.setdefault(ref['image_id'], {}).setdefault(sentence['kind'], sentence['sent'])
    images = sorted(Path(folder, 'images').iterdir())
    return [[str(image), '\n'.join(sentences[image_id].values())] for image_id, image in enumerate(images, 1)]


def import_page(folder: str) -> ModuleType:
    """The module of the page, with a folder for uploads and files for download.

    Gradio reads the name of its folder when it is imported, and fails if its own one belongs to another user.

    Raises:
        InputError: Gradio is not installed.
    """
    os.environ['GRADIO_TEMP_DIR'] = folder
    try:
        return import_module('dit_sam.web.page')
    except ModuleNotFoundError as error:
        raise InputError(
            f'the web page needs gradio, and {error.name} is not installed: pip install "dit-sam[web]"'
        ) from error


def main(args: argparse.Namespace) -> None:
    end_by_signals()
    with one_line_errors(), page_folder() as folder:
        if args.model and (args.config or args.checkpoint):
            raise InputError('--model brings its config and weights: leave out --config and --checkpoint')
        if args.config and not args.checkpoint:
            raise InputError('--config without --checkpoint: name the weights of that config')
        check_address(args.host, args.port)
        web = import_page(osp.join(folder, 'files'))
        options = dict(device=args.device, show_progress=False, dtype=args.dtype)
        if args.model:
            inferencer = ReferringInferencer.from_pretrained(args.model, **options)
        else:
            inferencer = ReferringInferencer(args.config, args.checkpoint, **options)
        page = web.Page(inferencer, make_examples(osp.join(folder, 'examples')))
        try:
            web.launch(page, args.host, args.port)
        except OSError as error:
            raise InputError(f'{args.host}, port {args.port or "any"}, cannot be served: {error}') from error


if __name__ == '__main__':
    main(ARGS)
