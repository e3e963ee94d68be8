"""Turn a training checkpoint into a model to share: a folder, a repository of a hub, or a file of weights.

Usage:
    python tools/model_converters/publish_model.py work_dirs/NAME/best_mIoU_epoch_10.pth FOLDER --license apache-2.0
    python tools/model_converters/publish_model.py work_dirs/NAME/best_mIoU_epoch_10.pth --hub USER/NAME \
        --license apache-2.0 [--private]
    python tools/model_converters/publish_model.py work_dirs/NAME/best_mIoU_epoch_10.pth NAME.safetensors
    [--half] [--merge-lora] [--config CONFIG]
"""

import argparse
import json
import os.path as osp
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint written by tools/train.py')
    parser.add_argument('out', nargs='?', help='folder to write; or a file, *.safetensors, with weights and config')
    parser.add_argument('--hub', metavar='USER/NAME', help='repository to upload the folder to; made if it is missing')
    parser.add_argument('--private', action='store_true', help='make the repository private')
    parser.add_argument('--license', help='license of the weights as the hub names it: apache-2.0, cc-by-4.0, other, …')
    parser.add_argument('--half', action='store_true', help='store float16; loading converts back to float32')
    parser.add_argument(
        '--merge-lora', action='store_true', help='merge LoRA into the weights and leave it out of the config'
    )
    parser.add_argument('--config', help='config to put inside; by default the one in the checkpoint, with its paths')
    args = parser.parse_args()
    if not args.out and not args.hub:
        parser.error('name a folder or file to write, or --hub')
    if args.out and args.out.endswith(('.pth', '.pt', '.bin', '.ckpt')):
        parser.error(f'{args.out} would be a folder: files to share are *.safetensors, which run no code when opened')
    if args.out and args.out.endswith('.safetensors') and (args.hub or args.license):
        parser.error(f'{args.out} is a file, and --hub and --license need a folder')
    if args.hub and not args.license:
        parser.error('--hub needs --license: say what others may do with the weights, or --license other')
    if args.private and not args.hub:
        parser.error('--private needs --hub')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor

from dit_sam.apis.model_card import describe_training, epoch_and_scores
from dit_sam.apis.pretrained import check_new_folder, write_pretrained
from dit_sam.apis.shared_config import check_foreign_model, read_config_text
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import prepare_process
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models.lora import drop_lora, merge_lora
from dit_sam.utils import check_target, load_strictly, read_checkpoint, save_weights, weights_of
from dit_sam.utils.hub import check_repository, upload_folder
from dit_sam.version import __version__


def merge(checkpoint: dict, config: dict, args: argparse.Namespace) -> dict[str, Tensor]:
    """The weights with LoRA merged; its settings are taken out of the config.

    Raises:
        InputError: There is no LoRA, or the config in the checkpoint would do something else than build our parts.
    """
    init_default_scope('mmseg')
    source = args.checkpoint
    if not args.config:
        try:
            check_foreign_model(config['model'], f'the config in {source}')
        except InputError as error:
            raise InputError(f'{error}; name the config of the training by --config') from error
    model = MODELS.build(Config(config).model)
    load_strictly(model, checkpoint, source)
    if not merge_lora(model):
        raise InputError(f'{source} has no LoRA: leave out --merge-lora')
    drop_lora(config['model'])
    return model.state_dict()


def find_config(checkpoint: dict, args: argparse.Namespace) -> Any:
    """A config file with its bases or, without one, the text of the config in the checkpoint; '' if it has none."""
    if args.config:
        # The config that `load_config` finds and checks, without the settings that it adds for a run.
        return Config.fromfile(load_config(args.config).filename)
    meta = checkpoint.get('meta', {})
    # `cfg` from training, `config` from this tool.
    return meta.get('cfg') or meta.get('config') or ''


def as_values(config: Any, args: argparse.Namespace, needed_by: str) -> dict:
    """The values of a config or of its text.

    Raises:
        InputError: There is no config, or the text is not one.
    """
    if not config:
        raise InputError(f'{args.checkpoint} has no config inside, which {needed_by} needs: give --config')
    values = config.to_dict() if isinstance(config, Config) else read_config_text(config, args.checkpoint)
    if 'model' not in values:
        raise InputError(f'the config of {args.checkpoint} has no model: give --config')
    return values


def metadata_of(checkpoint: dict, config: str) -> dict[str, str]:
    """The metadata of the safetensors file, as text: version, config, progress of training, scores."""
    recorded = epoch_and_scores(checkpoint)
    counts = {key: str(recorded.get(key, '')) for key in ('epoch', 'iter')}
    return dict(counts, dit_sam=__version__, config=config, scores=json.dumps(recorded['scores']))


def write_file(args: argparse.Namespace, checkpoint: dict, weights: dict[str, Tensor], config: Any) -> None:
    """Write the weights with the config as text."""
    if args.merge_lora:
        values = as_values(config, args, '--merge-lora')
        weights, config = merge(checkpoint, values, args), Config(values)
    text = config.pretty_text if isinstance(config, Config) else config
    weights = {
        name: value.half() if args.half and value.is_floating_point() else value for name, value in weights.items()
    }
    save_weights(args.out, weights, metadata_of(checkpoint, text))
    print(
        f'{args.out}: {sum(value.numel() for value in weights.values()):,} weights, '
        f'{Path(args.out).stat().st_size / 2**20:.2f} MiB'
    )


def write_folder(args: argparse.Namespace, checkpoint: dict, weights: dict[str, Tensor], config: Any) -> None:
    """Write a folder, and upload it if asked."""
    values = as_values(config, args, 'a folder')
    if args.merge_lora:
        weights = merge(checkpoint, values, args)
    # By default the work dir has the name of the config.
    name = osp.splitext(osp.basename(args.config))[0] if args.config else osp.basename(values.get('work_dir') or '')
    training = describe_training(values, epoch_and_scores(checkpoint))
    about: Mapping = dict(name=name or None, license=args.license, training=training)
    with TemporaryDirectory(prefix='dit_sam_publish_') as temporary:
        folder = args.out or osp.join(temporary, args.hub.split('/')[1])
        write_pretrained(folder, values, weights, about, args.half, args.hub or '')
        if args.out:
            print(f"{folder}: open it by ReferringInferencer.from_pretrained('{folder}')")
        if not args.license:
            print('README.md says that the license is not stated; --license states it')
        if args.hub:
            commit = upload_folder(folder, args.hub, args.private)
            print(f"{args.hub}, revision {commit}: ReferringInferencer.from_pretrained('{args.hub}')")


def main(args: argparse.Namespace) -> None:
    with one_line_errors():
        prepare_process()
        to_file = bool(args.out) and args.out.endswith('.safetensors')
        if args.hub:
            check_repository(args.hub)
        if to_file:
            check_target(args.out, [args.checkpoint])
        elif args.out:
            check_new_folder(args.out)
        checkpoint = read_checkpoint(args.checkpoint)
        if not isinstance(checkpoint, dict) or 'state_dict' not in checkpoint:
            raise InputError(f'{args.checkpoint} has no state_dict: name a checkpoint written by tools/train.py')
        config = find_config(checkpoint, args)
        weights = weights_of(checkpoint, args.checkpoint)
        (write_file if to_file else write_folder)(args, checkpoint, weights, config)
    if any('.lora_' in name for name in weights) and not args.merge_lora:
        print('LoRA is stored apart from the weights and needs peft; --merge-lora merges it into them')


if __name__ == '__main__':
    main(ARGS)
