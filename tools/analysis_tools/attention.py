"""Draw where the model looks (DIT, Figure 5): ``tools/analysis_tools/attention.py CONFIG CHECKPOINT IMAGE SENTENCE``.

Draws for each layer and word where visual tokens attend to the word, and where the word attends in the image, in the
layers that have such attention. In L-DIT's encoder, for example, text never attends to the image.
"""

import argparse
import os.path as osp
import sys
from contextlib import redirect_stdout

from dit_sam_cli.arguments import let_threads_yield


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint: .pth or .safetensors')
    parser.add_argument('image', help='image file')
    parser.add_argument('sentence', help='what to segment in it')
    parser.add_argument(
        '--layers',
        nargs='+',
        metavar='LAYER',
        help='encoder.0, …, decoder.0, …, decoder.final; default: all that have such attention',
    )
    parser.add_argument('--special', action='store_true', help='draw special tokens such as [CLS] too')
    parser.add_argument('--out', default='work_dirs/attention', help='folder for the pictures; no file is replaced')
    parser.add_argument('--device', help='as in torch: cpu, cuda:1, ...; default: a GPU where there is one')
    parser.add_argument('--font', help='.ttf or .otf file for the words in the pictures')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()
    let_threads_yield()

from dit_sam.apis import ReferringInferencer, attention_maps
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import check_folder, read_image, wrap_write_errors
from dit_sam.visualization import draw_attention, file_stem, write_image
from dit_sam.visualization.word_attention import DIRECTIONS


def main(args: argparse.Namespace) -> None:
    # mmengine's messages go to stderr, so that stdout has only the results.
    with one_line_errors(), redirect_stdout(sys.stderr):
        if osp.isdir(args.image):
            raise InputError(f'{args.image} is a folder: name one image')
        check_folder(args.out)
        inferencer = ReferringInferencer(args.config, args.checkpoint, args.device)
        attention = attention_maps(inferencer, args.image, args.sentence)
        image, stem = read_image(args.image), file_stem(args.image, args.sentence)
        layers = attention.select(args.layers)
        drawn = {
            direction: draw_attention(image, attention, direction, args.layers, args.special, args.font)
            for direction in DIRECTIONS
            if any(getattr(layer, direction) is not None for layer in layers)
        }
        with wrap_write_errors(args.out):
            files = [write_image(picture, args.out, f'{stem}_{direction}') for direction, picture in drawn.items()]
    print('\n'.join(['written:', *files]))


if __name__ == '__main__':
    main(ARGS)
