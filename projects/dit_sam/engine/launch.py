"""What tools/train.py and tools/test.py share."""

import errno
import inspect
import logging
import os
import os.path as osp
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmseg.registry import MODELS

from .. import compat
from ..errors import InputError, show_traceback
from ..models import SAMViT
from .autocast_optim_wrapper import NO_BFLOAT16
from .checkpoint_loader import CheckpointError
from .config_check import check_config
from .config_options import apply_config_options
from .latest_checkpoint import check_resumable, find_latest_checkpoint, remove_unfinished_writes
from .ranks import told_by_rank_0
from .run_check import check_launcher, check_run, check_shards, drop_idle_settings


@contextmanager
def one_line_errors(*others: type[Exception]) -> Iterator[None]:
    """End the program with status 1 and one line on stderr where the user's files are at fault.

    Missing files, refused checkpoints, `InputError`, full disks and limits on file size only: their messages say
    everything. Any other error keeps its traceback, and so do these with DIT_SAM_DEBUG=1 in the environment, before
    the line.

    Args:
        *others (type[Exception]): Further errors of one line that the user can mend.
    """
    try:
        yield
    except (FileNotFoundError, CheckpointError, InputError, *others) as error:
        message = str(error).strip()
        # An error of a data loading process carries that process's traceback, and ends in the message.
        if 'Traceback (most recent call last)' in message:
            message = message.splitlines()[-1]
        show_traceback()
        print(f'error: {message}', file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        show_traceback()
        reason = 'a file is larger than the system allows' if error.errno == errno.EFBIG else 'the disk is full'
        print(
            f'error: {reason}{f" ({error.filename})" if error.filename else ""}: make room and run again; '
            'checkpoints that were there are whole, and tools/train.py --resume goes on from the newest',
            file=sys.stderr,
        )
        sys.exit(1)


def load_config(
    filename: str, launcher: str = 'none', work_dir: str | None = None, cfg_options: dict | None = None
) -> Config:
    """Read a config and apply the command line to it.

    Args:
        filename (str): The config file.
        launcher (str): Job launcher: none, pytorch, slurm or mpi. Defaults to 'none'.
        work_dir (str, optional): Where logs and checkpoints go. Defaults to the config's ``work_dir``, or else to
            ``work_dirs/<name of the config>``.
        cfg_options (dict, optional): Keys with dots, and the values that replace the config's.

    Returns:
        Config: The config, ready for the Runner; on a CPU, with its process group started when there is a launcher.

    Raises:
        FileNotFoundError: If there is no such config.
        InputError: It cannot be read, a key is misspelt, a value is of the wrong type (`check_config`) or cannot be
            used (`check_run`), or the launcher did not start this process.
    """
    if osp.isdir(filename):
        raise InputError(f'config {filename} is a folder: name a file in it')
    if not osp.isfile(filename):
        folder, name = osp.split(filename)
        near = get_close_matches(name, os.listdir(folder or '.') if osp.isdir(folder or '.') else [], cutoff=0.8)
        hint = f'did you mean {" or ".join(near)}?' if near else 'configs/dit_sam has those of this project'
        raise FileNotFoundError(f'config {filename} not found: {hint}')
    cfg = _read(filename)
    cfg.launcher = launcher
    apply_config_options(cfg_options or {}, cfg)
    name = osp.splitext(osp.basename(filename))[0]
    cfg.work_dir = work_dir or cfg.get('work_dir') or osp.join('work_dirs', name)
    check_config(cfg, f'config {filename}')
    check_run(cfg, f'config {filename}')
    check_launcher(launcher)
    drop_idle_settings(cfg)
    _score_in_float32(cfg)
    if (cfg.get('randomness') or {}).get('deterministic'):
        # What cuBLAS wants to be told before its first use; some releases of torch refuse to multiply without it.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    if cfg.get('find_unused_parameters') and cfg.get('model_wrapper_cfg'):
        # The Runner reads the one only where there is no other.
        cfg.model_wrapper_cfg.find_unused_parameters = True
    compat.init_dist_without_cuda(cfg)
    return cfg


def _score_in_float32(cfg: Config) -> None:
    """Turn off the bfloat16 of validation and testing where the device has no arithmetic for it, and say so."""
    for key, name in (('val_cfg', 'validation'), ('test_cfg', 'testing')):
        if (cfg.get(key) or {}).get('fp16') and not compat.has_bfloat16(get_device()):
            cfg[key].fp16 = False
            print_log(NO_BFLOAT16.format(name), logger='current', level=logging.WARNING)


def compile_blocks(cfg: Config) -> None:
    """Turn `compile` of a config with one of our image encoders into a `CompileHook`, and fix the length of its text.

    Raises:
        InputError: torch is too old, the training is sharded, or `torch.compile` has no such keyword or mode.
    """
    backbone = MODELS.get(str((cfg.model.get('backbone') or {}).get('type')))
    if cfg.get('compile') in (None, False) or not (isinstance(backbone, type) and issubclass(backbone, SAMViT)):
        return
    if not hasattr(torch.compiler, 'set_stance'):
        raise InputError(f'compile needs torch 2.6 or newer, and this is {torch.__version__}: leave it out')
    if 'strategy' in cfg:
        raise InputError('compile does not work with a strategy (FSDP, DeepSpeed): leave one of the two out')
    options = {} if cfg.compile is True else dict(cfg.compile)
    _check_compile(options)
    cfg.custom_hooks = [*cfg.get('custom_hooks', ()), dict(type='CompileHook', **options)]
    cfg.compile = False
    if (cfg.model.get('text_encoder') or {}).get('type') == 'HuggingFaceTextEncoder':
        cfg.model.text_encoder.pad_to_max_length = True


def _check_compile(options: dict) -> None:
    """Refuse what `torch.compile` would stumble over in the first step; errors as in `compile_blocks`."""
    keywords = inspect.signature(torch.compile).parameters.keys() - {'model'}
    unknown = sorted(options.keys() - keywords)
    if unknown:
        raise InputError(
            f'compile.{unknown[0]} is no argument of torch.compile, which has {", ".join(sorted(keywords))}'
        )
    modes = ['default', *torch._inductor.list_mode_options()]
    if options.get('mode', 'default') not in modes:
        raise InputError(
            f'compile.mode={options["mode"]!r} is no mode of torch.compile, which has {", ".join(dict.fromkeys(modes))}'
        )


def _read(filename: str) -> Config:
    try:
        return Config.fromfile(filename)
    except Exception as error:  # a config is a program, and may raise anything
        reason = f'{type(error).__name__}: {error}'.splitlines()[0].rstrip(': ')
        raise InputError(f'config {filename} cannot be read: {reason}') from error


def check_checkpoint(filename: str) -> None:
    """Raise FileNotFoundError early for a local checkpoint that does not exist; a name with ``://`` passes."""
    if '://' not in filename and not osp.isfile(osp.expanduser(filename)):
        raise FileNotFoundError(
            f'checkpoint {filename} not found: check the path; tools/train.py writes its checkpoints to the --work-dir'
        )


def resume_latest(cfg: Config) -> None:
    """Make the run continue from the newest readable checkpoint of its work dir, whatever `load_from` names.

    A work dir without checkpoints begins a training, with `load_from` as plain weights. The same command can therefore
    be sent again and again. `resume=True` in the config continues from the state in `load_from` the first time, as in
    mmengine, and each time if `load_from` lies in the work dir itself, which is how an older checkpoint is chosen.

    Rank 0 looks and tells the others, for whom the folder may look different a moment later, or over a network. The
    process group of a launched run is started for it. What writers that were killed have left is removed before.

    Raises:
        CheckpointError: There are checkpoints and none can be read, or `load_from` holds no training state; on rank 0,
            and the others exit.
    """
    compat.start_process_group(cfg)
    start, with_state = cfg.get('load_from'), bool(cfg.get('load_from') and cfg.get('resume'))
    chosen = with_state and osp.dirname(osp.realpath(start)) == osp.realpath(cfg.work_dir)
    remote = '://' in (start or '')

    def look() -> str | None:
        remove_unfinished_writes(cfg.work_dir)
        newest = None if chosen else find_latest_checkpoint(cfg.work_dir)
        if newest is None and with_state and not remote:
            check_resumable(start)
        return newest

    newest = told_by_rank_0(look)
    if newest is None and with_state and remote:
        # One rank of each machine downloads it, and all wait for that.
        check_resumable(start)
    cfg.load_from, cfg.resume = newest or start, newest is not None or with_state
    print_log(f'--resume: {_origin(cfg)}', logger='current')


def _origin(cfg: Config) -> str:
    """Where a run starts from, for the log."""
    if cfg.resume:
        return f'continues from {cfg.load_from}'
    weights = f'with the weights of {cfg.load_from}' if cfg.load_from else 'from the beginning'
    return f'no checkpoint in {cfg.work_dir}, the training starts {weights}'


def enable_amp(cfg: Config) -> None:
    """Switch the config's optimizer wrapper to mixed precision.

    In bfloat16, without a loss scaler, on a CPU and on GPUs from compute capability 8.0 (Ampere) on. Older ones only
    emulate it: there mmengine's ``AmpOptimWrapper`` in float16.

    Raises:
        InputError: The wrapper is neither a plain one nor one for mixed precision, or it would be float16 in shards.
    """
    wrapper = cfg.optim_wrapper
    if wrapper.type in ('AmpOptimWrapper', 'AutocastOptimWrapper'):
        print_log(f'--amp: mixed precision is on already in the config ({wrapper.type})', logger='current')
    elif wrapper.type not in ('OptimWrapper', 'GuardedOptimWrapper'):
        raise InputError(
            f"--amp works with optim_wrapper.type 'OptimWrapper' or 'GuardedOptimWrapper', got '{wrapper.type}'"
        )
    elif torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16')
        check_shards(cfg)
    else:
        wrapper.update(type='AutocastOptimWrapper', dtype='bfloat16')
