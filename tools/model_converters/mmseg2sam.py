"""Bring the SAM inside a model of this project back to SAM's own names.

SRC is a checkpoint of tools/train.py or what sam2mmseg.py and dit2mmseg.py write. SAM has no place for text: the text
encoder, its projection and the instruction are dropped. A mask decoder with more blocks than SAM's is refused.

Usage:
    python tools/model_converters/mmseg2sam.py work_dirs/NAME/epoch_25.pth sam_vit_b.pth
    python tools/model_converters/mmseg2sam.py work_dirs/NAME/epoch_25.pth DIR/model.safetensors --layout huggingface
"""

import argparse

from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import HUGGING_FACE_SAM, OURS, SAM, check_target, find_layout, read_weights, save_weights
from dit_sam.utils.conversion import ARCHS, count_by_prefix, sam_on_meta, summary, tell_arch, to_ours_exactly

LAYOUTS = dict(sam=SAM, huggingface=HUGGING_FACE_SAM)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help='checkpoint of this project')
    parser.add_argument('dst', help='file to write, *.pth or *.safetensors')
    parser.add_argument(
        '--layout',
        choices=list(LAYOUTS),
        default='sam',
        help="whose names: segment_anything's (the default), or those of transformers' SamModel",
    )
    parser.add_argument('--arch', choices=ARCHS, help='the size that SRC should have; it is told from the weights')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    layout = LAYOUTS[args.layout]
    with one_line_errors():
        check_target(args.dst, [args.src])
        weights = read_weights(args.src)
        found = find_layout(weights, args.src)
        if found is not OURS:
            raise InputError(
                f'{args.src} has the names of {found.source}, not of dit_sam: convert it by sam2mmseg.py '
                'or dit2mmseg.py first'
            )
        arch = tell_arch(weights, OURS, args.src, args.arch)
        kept = {name: value for name, value in weights.items() if not name.startswith(layout.ours_alone)}
        kept = to_ours_exactly(kept, OURS, sam_on_meta(arch), args.src, f"SAM's ViT-{arch[0].upper()}")
        converted = layout.to_theirs(kept)
        save_weights(args.dst, converted)
    print(summary(args.dst, converted, f'ViT-{arch[0].upper()}', count_by_prefix(list(weights), layout.ours_alone)))


if __name__ == '__main__':
    main()
