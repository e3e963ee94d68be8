"""Train a model: ``tools/train.py CONFIG [options]``, with the options of mmseg's tool."""

import argparse

from dit_sam_cli.arguments import add_config_options, add_launcher, let_threads_yield, note_local_rank
from dit_sam_cli.files import CONFIGS_ARE, check_exists


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints, default work_dirs/<name of the config>')
    parser.add_argument(
        '--resume',
        action='store_true',
        help='continue from the newest checkpoint of the work dir; if there is none, start',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    add_config_options(parser)
    add_launcher(parser)
    args = parser.parse_args()
    note_local_rank(args)
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()
    check_exists('config', ARGS.config, CONFIGS_ARE)
    let_threads_yield()

from mmengine.runner import Runner
from mmseg.registry import RUNNERS

from dit_sam.compat import use_usual_device
from dit_sam.engine.compile_hook import compile_blocks
from dit_sam.engine.launch import (
    enable_amp,
    load_config,
    only_training,
    resume_latest,
    skip_initial_weights,
    warn_of_earlier_training,
)
from dit_sam.engine.step_settings import follow_batch, warn_of_short_training
from dit_sam.mmengine_extras import prepare_process
from dit_sam.mmengine_extras.checkpoint_io import runners_map_checkpoints
from dit_sam.mmengine_extras.diagnostics import missing_data_advice, one_line_errors, out_of_memory_advice
from dit_sam.mmengine_extras.ranks import end_process_group
from dit_sam.mmengine_extras.run_check import check_training


def main(args: argparse.Namespace) -> None:
    prepare_process()
    with one_line_errors():
        cfg = load_config(args.config, args.launcher, args.work_dir, args.cfg_options)
        use_usual_device(cfg)
        if args.amp:
            enable_amp(cfg)
        compile_blocks(cfg)
        with only_training(cfg):
            if args.resume or cfg.get('resume'):
                resume_latest(cfg)
            with out_of_memory_advice(cfg, 'train'), missing_data_advice(cfg), runners_map_checkpoints():
                runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
                warn_of_earlier_training(cfg)
                check_training(runner)
                follow_batch(runner)
                warn_of_short_training(runner)
                skip_initial_weights(runner)
                runner.train()
        end_process_group(0)


if __name__ == '__main__':
    main(ARGS)
