"""Rename the released DIT weights to the names of this project.

SRC is a checkpoint of the released code, and the config is that of its scheme. E-DIT and L-DIT have the same names, so
the file does not say which of the two it is.

Usage:
    python tools/model_converters/dit2mmseg.py SRC.pth checkpoints/ldit_vit-b.safetensors [--config CONFIG]
"""

import argparse
from pathlib import Path

from dit_sam_cli.arguments import SAM_ARCHS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help='checkpoint of the released DIT')
    parser.add_argument('dst', help='file to write, *.safetensors or *.pth')
    parser.add_argument(
        '--config', help="config of the model; by default L-DIT of the size of SRC, with BERT's first layer"
    )
    parser.add_argument('--arch', choices=SAM_ARCHS, help='the expected size of SRC; it is inferred from the weights')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from dit_sam.engine.launch import load_config
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models.weights import RELEASED_DIT
from dit_sam.models.weights.conversion import build_on_meta, infer_arch, read_source, summary, to_ours_exactly
from dit_sam.models.weights.released_text import released_text_warning
from dit_sam.models.weights.sam_weights import check_size, encoder_size
from dit_sam.utils import save_weights
from dit_sam.version import __version__

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'dit_sam'


def main(args: argparse.Namespace) -> None:
    with one_line_errors():
        remedy = 'this converts the released DIT, and sam2mmseg.py converts SAM'
        weights, layout = read_source(args.src, args.dst, (RELEASED_DIT,), remedy)
        config = args.config
        if args.arch or not config:
            arch = infer_arch(weights, layout, args.src, args.arch)
            config = config or str(CONFIGS / f'ldit_vit-{arch[0]}.py')
        cfg = load_config(config)
        if not args.config:
            cfg.model.text_encoder.model.num_hidden_layers = 1
        model = build_on_meta(cfg.model)
        check_size(encoder_size(weights, layout), model.backbone, args.src)
        target = f'{config} (--config names that of another scheme)'
        converted = to_ours_exactly(weights, layout, model.state_dict(), args.src, target)
        save_weights(args.dst, converted, dict(dit_sam=__version__, config=cfg.pretty_text))
    print(summary(args.dst, converted, Path(config).stem, weights, layout.unused))
    if warning := released_text_warning(model.text_encoder):
        print(warning)


if __name__ == '__main__':
    main(ARGS)
