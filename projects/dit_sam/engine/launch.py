"""The launch of tools/train.py and tools/test.py: config, checkpoint to resume, mixed precision, lock of the folder."""

import os
import os.path as osp
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from glob import escape, glob
from typing import Any

import torch
from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner

from .. import compat
from ..errors import InputError, log_warning
from ..mmengine_extras import SafeCheckpointHook
from ..mmengine_extras.config_check import check_config, class_name, name_in_scope, registered_name
from ..mmengine_extras.config_options import apply_config_options, read_config_options
from ..mmengine_extras.latest_checkpoint import check_resumable, find_latest_checkpoint, remove_unfinished_writes
from ..mmengine_extras.optim_wrapper import NO_BFLOAT16
from ..mmengine_extras.ranks import run_on_rank_0
from ..mmengine_extras.run_check import check_launcher, check_run, check_shards, drop_idle_settings
from ..registry import config_folder
from ..utils import lock_folder
from ..utils.checkpoints import CheckpointError, not_found


def load_config(
    filename: str,
    launcher: str = 'none',
    work_dir: str | None = None,
    cfg_options: Mapping | Sequence[str] | None = None,
) -> Config:
    """Read a config, apply the command line to it, and check it.

    Args:
        filename: The config file, or `dit_sam::NAME.py` for one of this package.
        launcher: Job launcher: none, pytorch, slurm or mpi.
        work_dir: Folder of logs and checkpoints; None for the config's `work_dir`, or else `work_dirs/{config name}`.
        cfg_options: Values by dotted name, which replace those of the config, or texts `key=value`.

    Returns:
        The config, ready for the Runner. On a CPU with a launcher, the process group has been started.

    Raises:
        FileNotFoundError: There is no such config.
        InputError: It cannot be read, `check_config` or `check_run` refuses it, or the launcher did not start this
            process.
    """
    filename = _in_package(filename)
    if osp.isdir(filename):
        raise InputError(f'config {filename} is a folder: name a file in it')
    if not osp.isfile(filename):
        folder, name = osp.split(filename)
        near = get_close_matches(name, os.listdir(folder or '.') if osp.isdir(folder or '.') else [], cutoff=0.8)
        hint = f'did you mean {" or ".join(near)}?' if near else 'dit-sam list-models names those of this project'
        raise FileNotFoundError(f'config {filename} not found: {hint}')
    cfg = _read(filename)
    cfg.launcher = launcher
    if cfg_options:
        options = cfg_options if isinstance(cfg_options, Mapping) else read_config_options(cfg_options)
        apply_config_options(options, cfg)
    name = osp.splitext(osp.basename(filename))[0]
    cfg.work_dir = work_dir or cfg.get('work_dir') or osp.join('work_dirs', name)
    _use_safe_checkpoint_hook(cfg)
    check_config(cfg, f'config {filename}')
    check_run(cfg, f'config {filename}')
    check_launcher(launcher)
    drop_idle_settings(cfg)
    _score_in_float32(cfg)
    # mmengine needs the key as soon as another one of `randomness` is set.
    cfg.randomness = dict(dict(seed=None), **(cfg.get('randomness') or {}))
    if cfg.randomness.get('deterministic'):
        # cuBLAS reads it before its first use; some releases of torch refuse to multiply without it.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    if cfg.get('find_unused_parameters') and cfg.get('model_wrapper_cfg'):
        # The Runner reads the first one only if there is no second.
        cfg.model_wrapper_cfg.find_unused_parameters = True
    compat.init_dist_without_cuda(cfg)
    return cfg


def _use_safe_checkpoint_hook(cfg: Config) -> None:
    """Replace mmengine's `CheckpointHook`, which cannot resume what it writes.

    As that one, the hook then loads the weights that fit, unless the config sets `strict_load`.
    """
    checkpoint: Any = (cfg.get('default_hooks') or {}).get('checkpoint')
    if class_name(checkpoint) == 'CheckpointHook':
        checkpoint['type'] = name_in_scope(cfg, 'SafeCheckpointHook')
        checkpoint.setdefault('strict_load', False)
        print_log('default_hooks.checkpoint: SafeCheckpointHook in place of CheckpointHook', logger='current')


def _in_package(filename: str) -> str:
    """The path of a config that is named `dit_sam::NAME.py` or `dit_sam::FOLDER/NAME.py`; others stay."""
    scope, separator, name = filename.partition('::')
    if not separator:
        return filename
    if scope != 'dit_sam':
        raise InputError(f'config {filename} is of another package: name its file, or dit_sam::NAME.py')
    if osp.dirname(name):
        return osp.join(config_folder(), name)
    found = glob(osp.join(config_folder(), '[!_]*', escape(name)))
    return found[0] if found else osp.join(config_folder(), 'dit_sam', name)


def _score_in_float32(cfg: Config) -> None:
    """Turn off the bfloat16 of validation and testing if the device has no arithmetic for it, and log that."""
    for key, name in (('val_cfg', 'validation'), ('test_cfg', 'testing')):
        if (cfg.get(key) or {}).get('fp16') and not compat.has_bfloat16(compat.usual_device()):
            cfg[key].fp16 = False
            log_warning(NO_BFLOAT16.format(name))


def _read(filename: str) -> Config:
    try:
        cfg = Config.fromfile(filename)
        # As mmengine tells pure Python configs.
        if hasattr(cfg, '_imported_names'):
            cfg = Config(
                _named(cfg._to_lazy_dict(), cfg.get('default_scope')), cfg.text, cfg.filename, cfg.env_variables
            )
        return cfg
    except Exception as error:  # a config is a program, and may raise anything
        reason = f'{type(error).__name__}: {error}'.splitlines()[0].rstrip(': ')
        if '_get_package_and_cfg_path' in reason:
            reason = "mmengine needs the folder in a name of _base_, as in 'dit_sam::dit_sam/ldit_vit-b.py'"
        raise InputError(f'config {filename} cannot be read: {reason}') from error


def _named(value: Any, scope: str | None, key: str = '') -> Any:
    """A value of a pure Python config with its types by name, as in other configs.

    Programs compare names; and mmengine cannot write classes to the work folder once parts of a config have moved.
    """
    if isinstance(value, dict):
        return {name: _named(part, scope, name) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_named(part, scope) for part in value)
    if key in ('type', 'constructor') and isinstance(value, (LazyObject, LazyAttr)):
        return registered_name(f'{value.module}.{value}', scope)
    return value


@contextmanager
def only_training(cfg: Config) -> Iterator[None]:
    """Keep other trainings out of the work dir within the block: both would write the same checkpoints.

    Rank 0 holds the lock for all. The process group of a launched run is started for this.

    Raises:
        InputError: Another training is in the work dir, or it cannot be written to. Rank 0 raises it, and the others
            exit.
    """
    compat.start_process_group(cfg)
    with ExitStack() as held:

        def lock() -> None:
            held.enter_context(lock_folder(cfg.work_dir, 'another training'))

        run_on_rank_0(lock)
        yield


def warn_of_earlier_training(cfg: Config) -> None:
    """Warn on rank 0 that a training which resumes nothing will replace checkpoints of an earlier one."""
    if cfg.get('resume') or not is_main_process():
        return
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    folders = _folders_of_checkpoints(cfg.work_dir, hook.get('out_dir'), with_state=True)
    # Damaged ones are no loss.
    with suppress(CheckpointError):
        newest = find_latest_checkpoint(*folders, filename_tmpl=hook.get('filename_tmpl'))
        if newest is not None:
            log_warning(
                f'{newest} is of an earlier training, and this one starts anew and replaces its checkpoints: --resume '
                'continues it, and another --work-dir keeps it'
            )


def skip_initial_weights(runner: Any) -> None:
    """Do not read the weights of `init_cfg`, such as SAM's, if a checkpoint with all weights replaces them.

    Otherwise whoever trains a whole model on, or resumes, would need files that have no effect.
    """
    strict = any(isinstance(hook, SafeCheckpointHook) and hook.strict_load for hook in runner.hooks)
    if isinstance(runner, Runner) and runner.cfg.get('load_from') and strict:
        source = runner.cfg.load_from
        runner._init_model_weights = lambda: print_log(
            f'All weights come from {source}: init_cfg is not read', 'current'
        )


def check_checkpoint(filename: str) -> None:
    """Check early that a local checkpoint is a file; names with `://` pass.

    Raises:
        FileNotFoundError: It does not exist.
        InputError: It is a folder.
    """
    if '://' in filename or osp.isfile(osp.expanduser(filename)):
        return
    if osp.isdir(osp.expanduser(filename)):
        raise InputError(
            f'checkpoint {filename} is a folder: name a file in it; of a training with DeepSpeed, the best checkpoint '
            'of stage 2'
        )
    raise FileNotFoundError(not_found(filename))


def resume_latest(cfg: Config) -> None:
    """Make the run continue from the newest readable checkpoint of its work dir, regardless of `load_from`.

    Without checkpoints in the work dir the training starts, from the weights in `load_from` if it is set. The same
    command can thus be repeated. With `resume=True` in the config, the first run continues from the state in
    `load_from`, as in mmengine. If `load_from` is in the work dir itself, every run continues from it; this selects an
    older checkpoint. `default_hooks.checkpoint.out_dir` is searched too.

    Rank 0 decides for all, because the folder may change meanwhile, or look different over a network. The process group
    of a launched run is started for this. Temporary files of killed writers are removed first.

    Raises:
        InputError: `out_dir` is not on a file system, and `load_from` names no checkpoint.
        CheckpointError: No checkpoint can be read, or `load_from` holds no training state. Rank 0 raises it, and the
            others exit.
    """
    compat.start_process_group(cfg)
    start, with_state = cfg.get('load_from'), bool(cfg.get('load_from') and cfg.get('resume'))
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    folders = _folders_of_checkpoints(cfg.work_dir, hook.get('out_dir'), with_state)
    chosen = with_state and osp.dirname(osp.realpath(start)) in map(osp.realpath, folders)

    def choose() -> str | None:
        for folder in folders:
            remove_unfinished_writes(folder)
        return None if chosen else find_latest_checkpoint(*folders, filename_tmpl=hook.get('filename_tmpl'))

    newest = run_on_rank_0(choose)
    if newest is None and with_state:
        check_resumable(start)
    cfg.load_from, cfg.resume = newest or start, newest is not None or with_state
    print_log(f'--resume: {_origin(cfg)}', logger='current')


def _folders_of_checkpoints(work_dir: str, out_dir: str | None, with_state: bool) -> list[str]:
    """The work dir, where stopped trainings are saved, and the folder in `out_dir` where `CheckpointHook` saves."""
    if not out_dir or osp.realpath(out_dir) == osp.realpath(work_dir):
        return [work_dir]
    if '://' not in str(out_dir):
        return [work_dir, osp.join(out_dir, osp.basename(osp.abspath(work_dir)))]
    if with_state:
        return [work_dir]
    raise InputError(
        f'--resume cannot search default_hooks.checkpoint.out_dir={out_dir}: name the checkpoint, --cfg-options '
        'load_from=ADDRESS resume=True'
    )


def _origin(cfg: Config) -> str:
    """Where a run starts from, for the log."""
    if cfg.resume:
        return f'continues from {cfg.load_from}'
    weights = f'with the weights of {cfg.load_from}' if cfg.load_from else 'from the beginning'
    return f'no checkpoint in {cfg.work_dir}, the training starts {weights}'


def enable_amp(cfg: Config) -> None:
    """Switch the config's optimizer wrapper to mixed precision.

    It is bfloat16 without a loss scale on a CPU and on GPUs since compute capability 8.0 (Ampere). Older GPUs only
    emulate bfloat16 and get mmengine's `AmpOptimWrapper` in float16.

    Raises:
        InputError: The wrapper is of another type, or float16 would be used with FSDP.
    """
    wrapper = cfg.optim_wrapper
    # Without a type, mmengine takes the first of these.
    kind = class_name(wrapper) or 'OptimWrapper'
    if kind == 'AmpOptimWrapper' or wrapper.get('dtype'):
        print_log(f'--amp: mixed precision is on already in the config ({kind})', logger='current')
    elif kind not in ('OptimWrapper', 'GuardedOptimWrapper'):
        raise InputError(f"--amp works with optim_wrapper.type 'OptimWrapper' or 'GuardedOptimWrapper', got '{kind}'")
    elif torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16')
        check_shards(cfg)
    else:
        wrapper.update(type=name_in_scope(cfg, 'GuardedOptimWrapper'), dtype='bfloat16')
