"""Score a checkpoint: ``tools/test.py CONFIG CHECKPOINT [options]``, with the options of mmseg's tool."""

import argparse
from typing import Any

from dit_sam_cli.arguments import add_config_options, add_launcher, let_threads_yield, note_local_rank
from dit_sam_cli.files import CONFIGS_ARE, check_exists


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Score a checkpoint on the test set')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint: .pth or .safetensors')
    parser.add_argument('--work-dir', help='folder for the log and the scores, default work_dirs/<name of the config>')
    parser.add_argument('--out', help="folder for the predicted masks, one PNG a sentence, or for mmseg's label maps")
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='how long a picture is shown, in seconds')
    add_config_options(parser)
    parser.add_argument(
        '--tta', action='store_true', help="average several views of each picture, those of the config's tta_pipeline"
    )
    add_launcher(parser)
    args = parser.parse_args()
    note_local_rank(args)
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()
    check_exists('config', ARGS.config, CONFIGS_ARE)
    check_exists(
        'checkpoint', ARGS.checkpoint, 'check the path; tools/train.py writes its checkpoints to the --work-dir'
    )
    let_threads_yield()

from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import RUNNERS

from dit_sam.compat import use_usual_device
from dit_sam.engine.launch import check_checkpoint, load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import prepare_process
from dit_sam.mmengine_extras.checkpoint_io import runners_map_checkpoints
from dit_sam.mmengine_extras.config_check import check_config, class_name, name_in_scope
from dit_sam.mmengine_extras.diagnostics import missing_data_advice, one_line_errors, out_of_memory_advice
from dit_sam.mmengine_extras.ranks import end_process_group
from dit_sam.mmengine_extras.run_check import check_loader, names_of_scores
from dit_sam.utils import check_folder


def draw_predictions(cfg: Config, show: bool, show_dir: str | None, wait_time: float) -> None:
    """Turn on the config's visualization hook.

    Raises:
        InputError: If the config has none.
    """
    if 'visualization' not in cfg.get('default_hooks', {}):
        raise InputError(
            '--show and --show-dir need default_hooks.visualization in the config, as in '
            'configs/_base_/default_runtime.py'
        )
    cfg.default_hooks.visualization.draw = True
    if show:
        cfg.default_hooks.visualization.update(show=True, wait_time=wait_time)
    if show_dir is not None:
        cfg.visualizer.save_dir = show_dir


def augment(cfg: Config) -> None:
    """Turn on the config's test-time augmentation.

    Raises:
        InputError: If the config has none.
    """
    if not (cfg.get('tta_model') and cfg.get('tta_pipeline')):
        raise InputError(
            '--tta needs tta_model and tta_pipeline in the config, as in '
            'configs/_base_/default_runtime.py and configs/_base_/datasets/refcoco.py'
        )
    for dataset in _with_pipelines(cfg.test_dataloader.dataset):
        # The ground truth stays that of the ordinary test.
        truth = next((step for step in dataset.pipeline if class_name(step) == 'LoadReferringMask'), None)
        dataset.pipeline = _with_truth(cfg.tta_pipeline, truth)
    # mmseg's model treats probabilities of one channel as logits; with several channels it averages the same.
    if class_name(cfg.tta_model) == 'SegTTAModel':
        cfg.tta_model.type = name_in_scope(cfg, 'ReferringTTAModel')
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def _with_pipelines(dataset: dict) -> list[dict]:
    """The configs of data sets with a pipeline, in wrappers such as ConcatDataset."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    return [leaf for each in inner for leaf in _with_pipelines(each)] if inner else [dataset]


def _with_truth(pipeline: Any, truth: dict | None) -> Any:
    """A pipeline, however nested, in which the step for the ground truth is replaced by the given one."""
    if isinstance(pipeline, (list, tuple)):
        return [_with_truth(step, truth) for step in pipeline]
    if truth and class_name(pipeline) == 'LoadReferringMask':
        return truth
    return {key: _with_truth(value, truth) if key == 'transforms' else value for key, value in pipeline.items()}


def add_mask_writer(cfg: Config, output_dir: str) -> None:
    """Write the predicted masks; mmseg's `IoUMetric` writes its label maps itself."""
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]
    label_maps = [evaluator for evaluator in evaluators if class_name(evaluator) == 'IoUMetric']
    if label_maps:
        label_maps[0].update(output_dir=output_dir)
    else:
        cfg.test_evaluator = [*evaluators, dict(type=name_in_scope(cfg, 'MaskWriter'), output_dir=output_dir)]


def main(args: argparse.Namespace) -> None:
    prepare_process()
    with one_line_errors():
        check_checkpoint(args.checkpoint)
        cfg = load_config(args.config, args.launcher, args.work_dir, args.cfg_options)
        use_usual_device(cfg)
        cfg.load_from = args.checkpoint
        if args.show or args.show_dir:
            draw_predictions(cfg, args.show, args.show_dir, args.wait_time)
        if args.tta:
            augment(cfg)
            check_config(cfg, f'config {args.config} with --tta')
        if args.out is not None:
            check_folder(args.out)
            add_mask_writer(cfg, args.out)
        with out_of_memory_advice(cfg, 'test'), missing_data_advice(cfg), runners_map_checkpoints():
            runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
            check_loader(runner.test_loop.dataloader, 'test_dataloader')
            names_of_scores(runner.test_loop.evaluator.metrics, 'test_evaluator')
            runner.test()
        end_process_group(0)


if __name__ == '__main__':
    main(ARGS)
