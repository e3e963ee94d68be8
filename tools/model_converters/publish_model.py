"""Turn a training checkpoint into weights to share: safetensors, without the optimizer, with the config inside.

Usage:
    python tools/model_converters/publish_model.py work_dirs/NAME/best_mIoU_epoch_10.pth NAME.safetensors \
        [--half] [--merge-lora] [--config CONFIG]
"""

import argparse
import json
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint written by tools/train.py')
    parser.add_argument('out', help='file to write, *.safetensors')
    parser.add_argument('--half', action='store_true', help='store float16; loading converts back to float32')
    parser.add_argument(
        '--merge-lora', action='store_true', help='merge LoRA into the weights and leave it out of the config'
    )
    parser.add_argument('--config', help='config to put inside; by default the one in the checkpoint, with its paths')
    args = parser.parse_args()
    if not args.out.endswith('.safetensors'):
        parser.error(f'{args.out}: the file to write must end in .safetensors')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor

from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models.lora import merge_lora
from dit_sam.utils import check_target, load_strictly, read_checkpoint, save_weights, weights_of
from dit_sam.version import __version__


def merge(checkpoint: dict, config: str, source: str) -> tuple[dict[str, Tensor], str]:
    """The weights with LoRA merged, and the config without its settings.

    Raises:
        InputError: There is no LoRA, or the text is not a config.
    """
    try:
        cfg = Config.fromstring(config, '.py')
    except Exception as error:  # a config is a program and may raise anything
        raise InputError(f'the config in {source} cannot be read ({error}): give --config') from error
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    load_strictly(model, checkpoint, source)
    if not merge_lora(model):
        raise InputError(f'{source} has no LoRA: leave out --merge-lora')
    drop_lora(cfg.model)
    return model.state_dict(), cfg.pretty_text


def find_config(checkpoint: dict, path: str | None) -> str:
    """The text of a config file with its bases or, without one, of the config in the checkpoint; '' if it has none."""
    if path:
        load_config(path)  # checks it, but also adds the run's own folder
        return Config.fromfile(path).pretty_text
    meta = checkpoint.get('meta', {})
    # `cfg` from training, `config` from this tool.
    return meta.get('cfg') or meta.get('config') or ''


def drop_lora(part: dict) -> None:
    """Remove the settings of LoRA from a part of the model and its subparts."""
    part.pop('lora', None)
    for value in part.values():
        if isinstance(value, dict):
            drop_lora(value)


def metadata_of(checkpoint: dict, config: str) -> dict[str, str]:
    """The metadata of the safetensors file, as text: version, config, progress of training, scores."""
    scores = checkpoint.get('message_hub', {}).get('runtime_info', {}).get('scores', {})
    meta = checkpoint.get('meta', {})
    # A checkpoint that is written before its validation has the scores of the previous epoch.
    current = scores.get('epoch') == meta.get('epoch')
    scores = {name: value for name, value in scores.items() if current and name != 'epoch'}
    return dict(
        dit_sam=__version__,
        config=config,
        epoch=str(meta.get('epoch', '')),
        iter=str(meta.get('iter', '')),
        scores=json.dumps(scores),
    )


def main(args: argparse.Namespace) -> None:
    with one_line_errors():
        check_target(args.out, [args.checkpoint])
        checkpoint = read_checkpoint(args.checkpoint)
        if not isinstance(checkpoint, dict) or 'state_dict' not in checkpoint:
            raise InputError(f'{args.checkpoint} has no state_dict: name a checkpoint written by tools/train.py')
        config = find_config(checkpoint, args.config)
        weights = weights_of(checkpoint, args.checkpoint)
        if args.merge_lora:
            if not config:
                raise InputError(f'{args.checkpoint} has no config inside, which --merge-lora needs: give --config')
            weights, config = merge(checkpoint, config, args.checkpoint)
        weights = {
            name: value.half() if args.half and value.is_floating_point() else value for name, value in weights.items()
        }
        save_weights(args.out, weights, metadata_of(checkpoint, config))
    print(
        f'{args.out}: {sum(value.numel() for value in weights.values()):,} weights, '
        f'{Path(args.out).stat().st_size / 2**20:.2f} MiB'
    )
    if any('.lora_' in name for name in weights):
        print('LoRA is stored apart from the weights and needs peft; --merge-lora merges it into them')


if __name__ == '__main__':
    main(ARGS)
