"""Bring SAM's weights to the names of this project.

SRC is SAM's own file (sam_vit_{b,l,h}_*.pth), or a file or a folder in the layout of Hugging Face
(facebook/sam-vit-{base,large,huge}). A config takes such weights also as they are, as `init_cfg`.

Usage:
    python tools/model_converters/sam2mmseg.py checkpoints/sam_vit_b_01ec64.pth checkpoints/sam_vit-b.safetensors
"""

import argparse

from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import HUGGING_FACE_SAM, SAM, check_target, find_layout, read_weights, save_weights, weight_files
from dit_sam.utils.conversion import ARCHS, sam_on_meta, summary, tell_arch, to_ours_exactly
from dit_sam.version import __version__


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help="SAM's .pth, or a file or folder in the layout of Hugging Face")
    parser.add_argument('dst', help='file to write, *.safetensors or *.pth')
    parser.add_argument('--arch', choices=ARCHS, help='the size that SRC should have; it is told from the weights')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_line_errors():
        check_target(args.dst, weight_files(args.src))
        weights = read_weights(args.src)
        layout = find_layout(weights, args.src)
        if layout not in (SAM, HUGGING_FACE_SAM):
            raise InputError(
                f'{args.src} has the names of {layout.source}: dit2mmseg.py converts the released DIT, '
                'names of dit_sam need no conversion'
            )
        arch = tell_arch(weights, layout, args.src, args.arch)
        converted = to_ours_exactly(weights, layout, sam_on_meta(arch), args.src, f"SAM's ViT-{arch[0].upper()}")
        save_weights(args.dst, converted, dict(dit_sam=__version__, arch=arch))
    print(summary(args.dst, converted, f'ViT-{arch[0].upper()}', 'nothing'))


if __name__ == '__main__':
    main()
