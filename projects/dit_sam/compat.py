"""Workarounds for differences between environments: missing packages, forks, machines without a GPU.

`import dit_sam` calls `install` first. The upstream packages (mmengine, mmcv, mmcv-lite, mmsegmentation, mmdet) and the
maintained forks (onedl-*) are treated alike: `install` checks which modules can be found, not which distribution
provides them, and never replaces an existing module.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_REQUIRED = dict(mmengine='mmengine', mmcv='mmcv-lite>=2.1,<2.2', mmseg='mmsegmentation>=1.2.1')
_FORKS = dict(mmseg='onedl-mmsegmentation', mmdet='onedl-mmdetection')
_VERSION_QUERIES = ('get_compiler_version', 'get_compiling_cuda_version')


def install() -> None:
    """Prepare the environment for `import dit_sam`; calling it again has no effect.

    mmcv-lite gets a substitute for `mmcv._ext`, so that mmseg and mmdet can be imported. An op that is called says that
    it needs the full mmcv.

    Raises:
        ImportError: mmengine, mmcv or mmseg is not installed.
    """
    for module, requirement in _REQUIRED.items():
        if module not in sys.modules and find_spec(module) is None:
            raise ImportError(
                f"dit_sam needs the module '{module}', which is not installed: run `make setup` in the "
                f"repository, or `pip install '{requirement}'`"
            )
    if 'mmcv._ext' not in sys.modules and find_spec('mmcv._ext') is None:
        sys.modules['mmcv._ext'] = _substitute_for_mmcv_ext()


def find_configs_of_forks() -> None:
    """Let `mmseg::` and `mmdet::` in configs, which look for upstream's distributions, find the onedl forks."""
    from mmengine.config.utils import MODULE2PACKAGE

    for module, fork in _FORKS.items():
        if not _is_installed(MODULE2PACKAGE[module]) and _is_installed(fork):
            MODULE2PACKAGE[module] = fork


def _is_installed(distribution: str) -> bool:
    try:
        return bool(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return False


def _substitute_for_mmcv_ext() -> ModuleType:
    """Make a module that has every op by name, and raises an error when one is called.

    It has a module spec without a loader, so that `importlib.util.find_spec('mmcv._ext')` still works and
    `mmcv.utils.ext_loader.check_ops_exist` still answers no.
    """
    module = module_from_spec(ModuleSpec('mmcv._ext', loader=None))
    module.__doc__ = 'Substitute of dit_sam for the compiled ops of mmcv.'

    def __getattr__(name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(f"module 'mmcv._ext' has no attribute '{name}'")
        # `mmcv.utils.collect_env` asks for the compilers.
        return (lambda: 'n/a') if name in _VERSION_QUERIES else _missing_op(name)

    vars(module)['__getattr__'] = __getattr__
    return module


def _missing_op(name: str) -> Callable:
    def op(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(
            f"op '{name}' needs the full mmcv, and only mmcv-lite (without compiled ops) is installed: "
            '`pip uninstall mmcv-lite`, then install mmcv>=2.1,<2.2 for your torch and CUDA as in '
            'https://mmcv.readthedocs.io/en/latest/get_started/installation.html'
        )

    op.__name__ = op.__qualname__ = name
    return op


def import_sam_modeling() -> ModuleType:
    """Import `segment_anything.modeling`, with or without a working torchvision.

    `import segment_anything` imports torchvision for its predictor, but `modeling` needs only torch. If torchvision is
    missing or broken, an empty parent package is registered, which finds the same submodules. Accessing the predictor
    then raises an error with the reason.

    Raises:
        ImportError: segment_anything is not installed.
    """
    if 'segment_anything' not in sys.modules:
        spec = find_spec('segment_anything')
        if spec is None:
            raise ImportError(
                "SAM's mask decoder needs the module 'segment_anything', which is not installed: run "
                '`make setup` in the repository, or `pip install segment-anything`'
            )
        reason = _why_not_importable('torchvision')
        if reason:
            sys.modules['segment_anything'] = _empty_package(spec, reason)
    return importlib.import_module('segment_anything.modeling')


def _why_not_importable(name: str) -> str:
    """Import a module; return '' or the reason why it failed, in one line."""
    try:
        importlib.import_module(name)
    # A torchvision built for another torch fails with ImportError, OSError, RuntimeError or AttributeError.
    except Exception as error:
        return f'{type(error).__name__}: {error}'.split('\n')[0]
    return ''


def _empty_package(spec: ModuleSpec, reason: str) -> ModuleType:
    """Make the package of `spec` without running its `__init__`."""
    package = ModuleType(spec.name)
    package.__path__ = list(spec.submodule_search_locations or ())
    package.__file__ = spec.origin
    package.__spec__ = spec

    def __getattr__(name: str) -> None:
        # Not for submodules: `from package import submodule` imports them after an AttributeError.
        if name.startswith('__') or find_spec(f'{spec.name}.{name}') is not None:
            raise AttributeError(f"module '{spec.name}' has no attribute '{name}'")
        raise ImportError(
            f"'{name}' of {spec.name} needs torchvision, which does not import here ({reason}): install "
            'the torchvision that belongs to your torch'
        )

    vars(package)['__getattr__'] = __getattr__
    return package


def in_float32() -> dict[str, Any]:
    """The argument of `from_pretrained` for float32, by version; without it transformers 5 uses the file's type."""
    import torch
    import transformers
    from mmengine.utils import digit_version

    name = 'dtype' if digit_version(transformers.__version__) >= digit_version('4.56') else 'torch_dtype'
    return {name: torch.float32}


@cache
def has_bfloat16(device: str) -> bool:
    """Whether a type of device, such as 'cpu', has fast matrix products in bfloat16.

    PyTorch computes them on every CPU, but with a scalar loop where oneDNN has no kernel, as on CPUs with only AVX2:
    there a product of 512 × 512 takes 38 times as long as in float32. `ONEDNN_MAX_CPU_ISA=AVX2` simulates such a CPU.
    """
    import torch

    supported = getattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', None)
    return device != 'cpu' or (supported is not None and supported())


def usual_device() -> str:
    """The type of device without a choice: mmengine's, but the CPU on a Mac.

    On Apple's GPU ('mps') mmengine's autocast fails, and releases of torch copied wrong values (pytorch #139550).
    """
    from mmengine.device import get_device

    return 'cpu' if get_device() == 'mps' else get_device()


def use_usual_device(cfg: Any) -> None:
    """Make `usual_device` mmengine's device for this process, and do not fork data loaders on a Mac.

    There the system's libraries do not survive a fork, which is why Python starts processes anew since 3.8.
    """
    from mmengine.device import get_device, utils
    from mmengine.logging import print_log

    if get_device() != usual_device():
        print_log(f'The run is on the {usual_device()}: {get_device()} is not supported', logger='current')
        utils.DEVICE = usual_device()
    mp_cfg = (cfg.get('env_cfg') or {}).get('mp_cfg') or {}
    if sys.platform == 'darwin' and mp_cfg.get('mp_start_method') == 'fork':
        mp_cfg['mp_start_method'] = 'spawn'


def to_device(tensor: Any, device: Any) -> Any:
    """Copy a tensor to a device while the host continues.

    On Apple's GPU the host waits: there a tensor that is freed meanwhile would be read too late (pytorch #139550).
    """
    import torch

    return tensor.to(device, non_blocking=torch.device(device).type != 'mps')


def init_dist_without_cuda(cfg: Any) -> None:
    """Start the process group of a launched run if there is no accelerator; otherwise do nothing.

    mmengine's `init_dist` calls `torch.cuda.set_device` with every backend, and the Runner wraps the model for the GPU
    of its rank. The Runner keeps an existing process group, so this starts one without that call. In the config,
    `env_cfg.dist_cfg.backend` changes from nccl to gloo, `model_wrapper_cfg.device_ids` to None, and FSDP's settings to
    those of a CPU.

    Args:
        cfg: The config of the run, with `launcher` set.
    """
    from mmengine.dist import is_distributed

    if cfg.get('launcher', 'none') == 'none' or usual_device() != 'cpu' or is_distributed():
        return
    env_cfg = dict(cfg.get('env_cfg', {}))
    dist_cfg = dict(env_cfg.get('dist_cfg', {}))
    if dist_cfg.get('backend', 'nccl') == 'nccl':
        dist_cfg['backend'] = 'gloo'
    cfg.env_cfg = {**env_cfg, 'dist_cfg': dist_cfg}
    # What the Runner would pass to MMDistributedDataParallel, without the device.
    wrapper = dict(broadcast_buffers=False, find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = {**dict(cfg.get('model_wrapper_cfg') or wrapper), 'device_ids': None}
    if _has_strategy(cfg, 'FSDPStrategy'):
        _shard_on_cpu(cfg.strategy)
    with replaced('torch.cuda', 'set_device', lambda device: None):
        start_process_group(cfg)


def start_process_group(cfg: Any) -> None:
    """Start the process group of a launched run as mmengine's runners do, which then keep it; otherwise do nothing.

    Args:
        cfg: The config of the run, with `launcher` set.
    """
    from mmengine.device import get_device
    from mmengine.dist import init_dist, is_distributed
    from mmengine.utils.dl_utils import set_multi_processing

    if cfg.get('launcher', 'none') == 'none' or is_distributed():
        return
    env_cfg = dict(cfg.get('env_cfg', {}))
    dist_cfg = dict(env_cfg.get('dist_cfg', {}))
    if _has_strategy(cfg, 'DeepSpeedStrategy') and get_device() != 'cpu':
        dist_cfg['init_backend'] = 'deepspeed'
    # First, as in the Runner: `init_dist` sets the start method to spawn if none is set.
    set_multi_processing(**env_cfg.get('mp_cfg', {}), distributed=True)
    init_dist(cfg.launcher, **dist_cfg)


def _has_strategy(cfg: Any, name: str) -> bool:
    """Whether a config has a strategy of mmengine or one derived from it, by its name or class."""
    kind = (cfg.get('strategy') or {}).get('type', '')
    return str(getattr(kind, '__name__', kind)).endswith(name)


def _shard_on_cpu(strategy: dict) -> None:
    """Have FSDP shard on the CPU without offloading to the CPU, which would free the memory that it reads."""
    strategy['model_wrapper'] = {**strategy.get('model_wrapper', {}), 'device_id': 'cpu'}
    if strategy.get('state_dict_cfg') == 'full':
        here = dict(rank0_only=True, offload_to_cpu=False)
        strategy['state_dict_cfg'] = dict(
            state_dict_type='FULL_STATE_DICT',
            state_dict_config=dict(type='FullStateDictConfig', **here),
            optim_state_dict_config=dict(type='FullOptimStateDictConfig', **here),
        )


@contextmanager
def replaced(module: str, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute of a module within the block."""
    owner = importlib.import_module(module)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
