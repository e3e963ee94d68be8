"""`import dit_sam` registers its parts and leaves everything else of a program as it was."""

import subprocess
import sys

import pytest

# What a program may have set or asked for before it imports a plugin.
SNAPSHOT = """
import os, random, signal, sys, warnings
import numpy, torch, mmengine, mmengine.fileio, mmengine.runner
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.fileio.backends.registry_utils import backends, prefix_to_backends
from mmengine.registry import DATASETS, HOOKS, MODELS, OPTIM_WRAPPERS
from mmengine.runner.checkpoint import CheckpointLoader

def snapshot():
    return dict(
        loaders=dict(CheckpointLoader._schemes), backends=dict(backends), prefixes=dict(prefix_to_backends),
        packages=dict(MODULE2PACKAGE),
        functions=[mmengine.runner.runner.save_checkpoint, mmengine.runner.runner._load_checkpoint,
            mmengine.runner.load_checkpoint, torch.load, torch.save],
        stock={name: part for registry in (MODELS, DATASETS, HOOKS, OPTIM_WRAPPERS)
               for name, part in registry.module_dict.items() if part.__module__.startswith('mmengine')},
        signals=[signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)],
        random=[random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()],
        torch=[torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(),
            torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32,
            torch.are_deterministic_algorithms_enabled()],
        environment={k: v for k, v in os.environ.items() if not k.startswith(('TF_', 'KMP_', 'TORCHINDUCTOR'))},
        folder=os.getcwd(), path=list(sys.path),
    )
"""


def run(code: str, cwd: object) -> str:
    done = subprocess.run([sys.executable, '-c', SNAPSHOT + code], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    # The onedl forks of mmseg and mmdet print this when they are imported.
    return done.stdout.replace('Could not import OneDL\n', '')


# Programs that run one after the other in one process; the last one switches things on.
PROGRAMS = dict(
    importing="""
before = snapshot()
import dit_sam
after = snapshot()
# Modules of mmengine that are imported later register more, and may set variables of their own. dit_sam adds its name
# to the packages.
growing = ('environment', 'stock', 'packages')
print([key for key in before if key not in growing and before[key] != after[key]])
print([name for key in growing for name, value in before[key].items() if after[key].get(name) != value])
""",
    models="""
import mmseg.models, mmdet.models, mmseg.registry, mmdet.registry
print(len(mmseg.registry.MODELS.module_dict), len(mmdet.registry.MODELS.module_dict))
""",
    configs="""
import dit_sam, mmengine.hub
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS
mine = Config.fromfile('mine.py')
print(type(mmengine.hub.get_model('dit_sam::dit_sam/ldit_vit-t_shapes.py')) is type(MODELS.build(mine.model)))
print(type(TRANSFORMS.build(dict(type='ReferringFlip', _scope_='dit_sam'))).__name__)
# One that the metafile lists.
print(mmengine.hub.get_config('dit_sam::dit_sam/ldit_vit-b.py').model.type)
""",
    hook="""
import resource
from dit_sam.mmengine_extras.checkpoint_io import stream_checkpoints
torch.save(dict(old=1), 'a.pth')
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
try:
    with stream_checkpoints():
        mmengine.runner.runner.save_checkpoint(dict(new=torch.zeros(10000)), 'a.pth')
except OSError as error:
    print(type(error).__name__, torch.load('a.pth'), sorted(os.listdir()))
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
""",
    tools="""
from dit_sam.mmengine_extras import prepare_process
prepare_process(); prepare_process()
print(*sorted({loader.__module__.split('.checkpoint')[0] for loader in CheckpointLoader._schemes.values()}))
print(type(mmengine.fileio.get_file_backend('a.pth')).__name__)
""",
)


@pytest.fixture(scope='module')
def outputs(tmp_path_factory) -> dict[str, str]:
    """What each of the programs prints."""
    folder = tmp_path_factory.mktemp('programs')
    (folder / 'mine.py').write_text("_base_ = 'dit_sam::dit_sam/ldit_vit-t_shapes.py'\nfind_unused_parameters = True")
    found = run("print('= end =')\n".join(PROGRAMS.values()), folder).split('= end =\n')
    return dict(zip(PROGRAMS, found, strict=True))


def test_importing_changes_nothing_of_a_program(outputs):
    assert outputs['importing'].split() == ['[]', '[]']


def test_every_model_of_mmseg_and_mmdet_registers(outputs):
    mmseg_models, mmdet_models = map(int, outputs['models'].split())
    assert mmseg_models >= 92 and mmdet_models >= 277


def test_configs_of_the_package_are_found_by_its_name(outputs):
    """As `_base_` and by mmengine's hub; parts of such a base are built in the scope `dit_sam`."""
    assert outputs['configs'].split() == ['True', 'ReferringFlip', 'ReferringSegmentor']


def test_the_checkpoint_hook_writes_atomically_in_any_program(outputs):
    """Without `prepare_process`: a full disk leaves the old checkpoint."""
    assert outputs['hook'].strip() == "OSError {'old': 1} ['a.pth', 'mine.py']"


def test_the_tools_switch_on_safe_reading_and_atomic_writes(outputs):
    assert outputs['tools'].split() == ['dit_sam.utils', 'AtomicLocalBackend']
