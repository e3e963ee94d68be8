"""Rename EVF-SAM's weights to the names of this project, or back.

SRC tells the direction: a released file (`pytorch_model.bin`) becomes one of this project, and a checkpoint of this
project becomes a file with the released names, in float16 as released.

Usage:
    python tools/model_converters/evf2mmseg.py pytorch_model.bin checkpoints/evf-sam.safetensors [--config CONFIG]
    python tools/model_converters/evf2mmseg.py work_dirs/NAME/epoch_15.pth model.safetensors [--config CONFIG]
"""

import argparse
from pathlib import Path

CONFIG = str(Path(__file__).resolve().parents[2] / 'configs' / 'evf_sam' / 'evf_vit-h_beit3-l.py')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help='file or folder of the released EVF-SAM, or checkpoint of this project')
    parser.add_argument('dst', help='file to write, *.safetensors or *.pth')
    parser.add_argument('--config', default=CONFIG, help='config of the model; by default that of the released weights')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from dit_sam.engine.launch import load_config
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models.weights import EVF_SAM, OURS
from dit_sam.models.weights.conversion import build_on_meta, read_source, summary, to_ours_exactly
from dit_sam.models.weights.sam_weights import check_size, encoder_size
from dit_sam.utils import save_weights
from dit_sam.version import __version__


def main(args: argparse.Namespace) -> None:
    with one_line_errors():
        weights, layout = read_source(
            args.src,
            args.dst,
            (EVF_SAM, OURS),
            'this converts EVF-SAM, dit2mmseg.py the released DIT, sam2mmseg.py SAM',
        )
        cfg = load_config(args.config)
        model = build_on_meta(cfg.model)
        check_size(encoder_size(weights, layout), model.backbone, args.src)
        target = f'{args.config} (--config names another one)'
        converted = to_ours_exactly(weights, layout, model.state_dict(), args.src, target)
        metadata: dict | None = dict(dit_sam=__version__, config=cfg.pretty_text)
        if layout is OURS:
            converted = EVF_SAM.to_theirs(converted)
            converted = {name: value.half() for name, value in converted.items()}
            metadata = None
        save_weights(args.dst, converted, metadata)
    print(summary(args.dst, converted, Path(args.config).stem, weights, layout.unused))


if __name__ == '__main__':
    main(ARGS)
