"""Rename SAM's weights to the names of this project.

SRC is SAM's own file (sam_vit_{b,l,h}_*.pth), or a file or a folder in the layout of Hugging Face
(facebook/sam-vit-{base,large,huge}). Configs also take such weights unconverted, as `init_cfg`.

Usage:
    python tools/model_converters/sam2mmseg.py checkpoints/sam_vit_b_01ec64.pth checkpoints/sam_vit-b.safetensors
"""

import argparse

from dit_sam_cli.arguments import SAM_ARCHS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help="SAM's .pth, or a file or folder in the layout of Hugging Face")
    parser.add_argument('dst', help='file to write, *.safetensors or *.pth')
    parser.add_argument('--arch', choices=SAM_ARCHS, help='the expected size of SRC; it is inferred from the weights')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models.weights import HUGGING_FACE_SAM, SAM
from dit_sam.models.weights.conversion import read_source, sam_to_ours, summary, vit
from dit_sam.utils import save_weights
from dit_sam.version import __version__

REMEDY = 'dit2mmseg.py converts the released DIT, and names of dit_sam need no conversion'


def main(args: argparse.Namespace) -> None:
    with one_line_errors():
        weights, layout = read_source(args.src, args.dst, (SAM, HUGGING_FACE_SAM), REMEDY)
        converted, arch = sam_to_ours(weights, layout, args.src, args.arch)
        save_weights(args.dst, converted, dict(dit_sam=__version__, arch=arch))
    print(summary(args.dst, converted, vit(arch), weights, ()))


if __name__ == '__main__':
    main(ARGS)
