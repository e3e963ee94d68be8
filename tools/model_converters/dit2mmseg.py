"""Bring the released DIT weights to the names of this project.

SRC is a checkpoint of the released code, the config that of its scheme. E-DIT and L-DIT have the same names, so the
file does not say which of the two it is.

Usage:
    python tools/model_converters/dit2mmseg.py SRC.pth checkpoints/ldit_vit-b.safetensors [--config CONFIG]
"""

import argparse
from pathlib import Path

from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import RELEASED_DIT, check_target, find_layout, read_weights, save_weights
from dit_sam.utils.conversion import ARCHS, build_on_meta, count_by_prefix, summary, tell_arch, to_ours_exactly
from dit_sam.utils.encoder_size import check_size, encoder_size
from dit_sam.version import __version__

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'dit_sam'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help='checkpoint of the released DIT')
    parser.add_argument('dst', help='file to write, *.safetensors or *.pth')
    parser.add_argument('--config', help='config of the model; by default L-DIT of the size that SRC has')
    parser.add_argument('--arch', choices=ARCHS, help='the size that SRC should have; it is told from the weights')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_line_errors():
        check_target(args.dst, [args.src])
        weights = read_weights(args.src)
        if find_layout(weights, args.src) is not RELEASED_DIT:
            raise InputError(f'{args.src} is no released DIT: it has no visual_encoder; sam2mmseg.py converts SAM')
        if args.arch or not args.config:
            arch = tell_arch(weights, RELEASED_DIT, args.src, args.arch)
        config = args.config or str(CONFIGS / f'ldit_vit-{arch[0]}.py')
        cfg = load_config(config)
        model = build_on_meta(cfg.model)
        check_size(encoder_size(weights, RELEASED_DIT), model.backbone, args.src)
        converted = to_ours_exactly(
            weights, RELEASED_DIT, model.state_dict(), args.src, f'{config} (--config names that of another scheme)'
        )
        save_weights(args.dst, converted, dict(dit_sam=__version__, config=cfg.pretty_text))
    unused = count_by_prefix([name.removeprefix('module.') for name in weights], RELEASED_DIT.unused)
    print(summary(args.dst, converted, Path(config).stem, unused))


if __name__ == '__main__':
    main()
