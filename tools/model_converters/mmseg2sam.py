"""Rename the SAM inside a model of this project to SAM's own names.

SRC is a checkpoint of tools/train.py or of sam2mmseg.py or dit2mmseg.py. SAM has no place for text, so the text
encoder, its projection and the instruction are dropped. A mask decoder with more blocks than SAM's is refused.

Usage:
    python tools/model_converters/mmseg2sam.py work_dirs/NAME/epoch_25.pth sam_vit_b.pth
    python tools/model_converters/mmseg2sam.py work_dirs/NAME/epoch_25.pth DIR/model.safetensors --layout huggingface
"""

import argparse

from dit_sam_cli.arguments import SAM_ARCHS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help='checkpoint of this project')
    parser.add_argument('dst', help='file to write, *.pth or *.safetensors')
    parser.add_argument(
        '--layout',
        choices=['sam', 'huggingface'],
        default='sam',
        help="whose names: segment_anything's (the default), or those of transformers' SamModel",
    )
    parser.add_argument('--arch', choices=SAM_ARCHS, help='the expected size of SRC; it is inferred from the weights')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models.weights import HUGGING_FACE_SAM, OURS, SAM
from dit_sam.models.weights.conversion import read_source, sam_to_ours, summary, vit
from dit_sam.utils import save_weights

LAYOUTS = dict(sam=SAM, huggingface=HUGGING_FACE_SAM)


def main(args: argparse.Namespace) -> None:
    layout = LAYOUTS[args.layout]
    with one_line_errors():
        remedy = 'convert it to those of dit_sam first, with sam2mmseg.py or dit2mmseg.py'
        weights, _ = read_source(args.src, args.dst, (OURS,), remedy)
        ours, arch = sam_to_ours(weights, OURS, args.src, args.arch)
        converted = layout.to_theirs(ours)
        save_weights(args.dst, converted)
    print(summary(args.dst, converted, vit(arch), weights, layout.ours_alone))


if __name__ == '__main__':
    main(ARGS)
