"""Create the environment: ``python tools/setup_environment.py --venv .venv``; ``make setup`` calls it.

Needs only Python >= 3.10 and compiles nothing. It writes only into the environment and ``projects/dit_sam.egg-info``,
the metadata of the editable installation. It keeps what the environment has: torch >= 2.6, a full mmcv, the onedl forks
of the OpenMMLab packages. A second run ends at once unless the requirements have changed.

For an environment without these packages: ``--forks`` takes the forks, ``--cuda`` a CUDA build of torch (5.5 GB), which
runs on a CPU too, and ``--oldest`` the oldest version of everything that setup.cfg allows. ``--wheel`` builds a wheel
and installs it into a fresh environment, with its own requirements alone, in the tested versions; an earlier
environment is replaced.
"""

import argparse
import configparser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / 'requirements' / 'constraints.txt'
FORKS = ROOT / 'requirements' / 'forks.txt'
CUDA = ROOT / 'requirements' / 'cuda.txt'
INPUTS = (ROOT / 'setup.cfg', ROOT / 'pyproject.toml', CONSTRAINTS, FORKS, CUDA, Path(__file__).resolve())
# The interpreter in an environment.
INTERPRETER = 'Scripts/python.exe' if os.name == 'nt' else 'bin/python'
# Import name and distribution, as in setup.cfg; forks and the full mmcv bring the same import names.
MM_FAMILY = {'mmengine': 'mmengine', 'mmcv': 'mmcv-lite', 'mmseg': 'mmsegmentation', 'mmdet': 'mmdet'}
# mmengine needs the pkg_resources of setuptools < 82; from 70.1 on it builds wheels without the package `wheel`.
BUILDER = 'setuptools>=70.1,<82'
# Runs in the environment: versions of its distributions, what torch requires, and which distribution brings each mm
# module.
PROBE = """
import importlib.metadata as metadata, json, sys
owners = metadata.packages_distributions()
versions = {dist.metadata['Name'].lower(): dist.version for dist in metadata.distributions()}
print(json.dumps(dict(
    python=sys.version_info[:2],
    versions=versions,
    torch_needs=(metadata.requires('torch') or []) if 'torch' in versions else [],
    owners={module: owners[module][0].lower() for module in sys.argv[1:] if module in owners})))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description='Create the environment of dit_sam')
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv', help='folder of the environment')
    parser.add_argument('--forks', action='store_true', help='use the onedl forks of mmengine, mmcv, mmseg and mmdet')
    parser.add_argument('--cuda', action='store_true', help='use the CUDA build of torch, 5.5 GB')
    parser.add_argument('--oldest', action='store_true', help='use the oldest versions that setup.cfg allows')
    parser.add_argument('--wheel', action='store_true', help='install a wheel into a fresh environment')
    args = parser.parse_args()
    venv = args.venv.absolute()
    python, stamp = venv / INTERPRETER, venv / '.dit_sam_setup.json'
    options = {name: getattr(args, name) for name in ('forks', 'cuda', 'oldest')}
    wanted = json.dumps(dict(options, root=str(ROOT), inputs=fingerprint()))
    if args.wheel:
        # Only an environment that this made is replaced.
        if venv.exists() and not (venv / 'wheel').exists():
            fail(f'{venv} is not an environment of --wheel: name a new folder by --venv')
        shutil.rmtree(venv, ignore_errors=True)
        (venv / 'wheel').mkdir(parents=True)
    elif python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    add_pip(python, venv)
    if args.wheel:
        install_wheel(python, venv)
    else:
        install(python, venv, **options)
    stamp.write_text(wanted)
    say(f'done: {venv}')


def add_pip(python: Path, venv: Path) -> None:
    """Create the environment if there is none, and add pip to one without.

    An interrupted run, a system without the venv package, and `uv venv` leave environments without pip.
    """
    if not python.exists():
        say(f'creating an environment in {venv} with Python {sys.version.split()[0]}')
        run([sys.executable, '-m', 'venv', str(venv)], 'create the environment')
    elif subprocess.run([str(python), '-m', 'pip', '--version'], capture_output=True).returncode:
        say(f'adding pip to {venv}')
        run([str(python), '-m', 'ensurepip'], 'add pip to the environment')


def install(python: Path, venv: Path, forks: bool = False, cuda: bool = False, oldest: bool = False) -> None:
    """Install the requirements of setup.cfg: torch first, then the rest, then this repository."""
    found = probe(python)
    check_family(found, venv, forks)
    torch = torch_requirements(found, cuda, oldest)
    pip_install(python, torch, 'torch with CUDA (5.5 GB)' if cuda else 'torch')
    own = lines_of(FORKS) if forks else []
    if own:
        # pip builds them apart from the environment. Without torch there, their mmcv leaves out its ops and compiles
        # nothing. Dependencies come with the other requirements.
        pip_install(python, ['--no-deps', *own], 'the forks')
    found = probe(python)
    constraints = venv / 'dit_sam_constraints.txt'
    constraints.write_text('\n'.join(pins(found, oldest)) + '\n')
    pip_install(python, ['--constraint', str(constraints), *requirements(found), *own], 'the other requirements')
    repair_opencv(python)
    # Without isolation: the environment has setuptools, which would be downloaded again.
    pip_install(python, ['--no-deps', '--no-build-isolation', '--editable', str(ROOT)], 'dit_sam')


def install_wheel(python: Path, venv: Path) -> None:
    """Install torch, then a wheel of this repository, whose own requirements bring the rest."""
    folder = venv / 'wheel'
    pip_install(python, [BUILDER], 'setuptools')
    say('building the wheel')
    build = 'import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])'
    command = [str(python), '-c', build, str(folder)]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if output.returncode:
        fail(f'could not make the source distribution:\n{output.stdout}')
    options = ['--quiet', '--disable-pip-version-check', '--no-deps', '--no-build-isolation', '--wheel-dir']
    (source,) = folder.glob('*.tar.gz')
    run([str(python), '-m', 'pip', 'wheel', *options, str(folder), str(source)], 'build the wheel')
    pip_install(python, torch_requirements(probe(python)), 'torch')
    constraints = venv / 'dit_sam_constraints.txt'
    constraints.write_text('\n'.join(pins(probe(python))) + '\n')
    pip_install(python, ['--constraint', str(constraints), *map(str, folder.glob('*.whl'))], 'the wheel')
    repair_opencv(python)


def fingerprint() -> str:
    return hashlib.sha256(b'\0'.join(path.read_bytes() for path in INPUTS)).hexdigest()


def probe(python: Path) -> dict:
    output = subprocess.run([str(python), '-c', PROBE, *MM_FAMILY], capture_output=True, text=True)
    if output.returncode:
        fail(f'{python} does not work: remove the environment and run again\n{output.stderr}')
    return json.loads(output.stdout)


def check_family(found: dict, venv: Path, forks: bool = False) -> None:
    """Stop if packages of upstream and of a fork would be mixed, or if mmseg and mmdet would refuse the full mmcv."""
    owners = found['owners']
    upstream = [owner for owner in owners.values() if not owner.startswith('onedl-')]
    missing = [module for module in MM_FAMILY if module not in owners]
    if forks and upstream:
        fail(f'{venv} has {", ".join(upstream)}, which the forks replace: set up in another place with VENV=...')
    # Upstream's others would install the upstream mmengine.
    if not forks and missing and owners.get('mmengine', 'mmengine') != 'mmengine':
        fail(
            f"{venv} has {owners['mmengine']} but not {', '.join(missing)}: install the fork's packages for these "
            'too, or set up in another place with VENV=...'
        )
    full = owners.get('mmcv')
    if full in ('mmcv', 'mmcv-full') and not (2, 1) <= version(found['versions'][full]) < (2, 2):
        fail(
            f'{venv} has {full} {found["versions"][full]}, and mmseg and mmdet take 2.1 to 2.1.x: install such a '
            'one, or set up in another place with VENV=...'
        )


def torch_requirements(found: dict, cuda: bool = False, oldest: bool = False) -> list:
    """The tested torch, as a looser request may download gigabytes; nothing if torch is installed."""
    installed = found['versions'].get('torch')
    wanted = [line for line in tested(oldest) if line.startswith('torch==')]
    if installed is None:
        return lines_of(CUDA) if cuda else wanted
    if oldest and version(installed) != version(wanted[0].partition('==')[2]):
        fail(f'the installed torch {installed} is not the oldest: set up in another place with VENV=...')
    if cuda and installed.endswith('+cpu'):
        fail(f'the installed torch {installed} has no CUDA: set up in another place with VENV=...')
    if version(installed) < (2, 6):
        fail(
            f'torch {installed} is too old: dit_sam needs torch>=2.6; upgrade it, or set up in another place '
            'with VENV=...'
        )
    return []


def pins(found: dict, oldest: bool = False) -> list:
    """Constraints: the installed torch, and the tested versions of the rest; the newest need Python 3.11.

    A torch that is not the tested one brings its own versions of what it requires: 2.6.0 needs sympy 1.13.1.
    """
    installed = found['versions']['torch']
    torch = f'torch=={installed}'
    free = set()
    if f'torch=={installed.partition("+")[0]}' not in tested(oldest):
        free = {name_of(line) for line in found['torch_needs']} - {'setuptools'}
    if not oldest and tuple(found['python']) < (3, 11):
        return [torch, BUILDER]
    return [torch] + [line for line in tested(oldest) if name_of(line) not in {'torch', *free}]


def tested(oldest: bool) -> list:
    """The versions that are tested: those of requirements/constraints.txt, or the lower bounds in setup.cfg."""
    if not oldest:
        return lines_of(CONSTRAINTS)
    bounds = (re.match(r'([\w.-]+)>=([\w.]+)', line) for line in listed())
    return [f'{bound[1]}=={bound[2]}' for bound in bounds if bound] + [BUILDER]


def requirements(found: dict) -> list:
    """The requirements of setup.cfg and of the tests, without those that forks or a full mmcv provide."""
    brought = {MM_FAMILY[module] for module, owner in found['owners'].items() if owner != MM_FAMILY[module]}
    return [line for line in listed() if name_of(line) not in brought]


def listed() -> list:
    """The requirements in setup.cfg, with those of the tests."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    lines = config['options']['install_requires'] + config['options.extras_require']['test']
    return [line for line in map(str.strip, lines.splitlines()) if line and not line.startswith('#')]


def repair_opencv(python: Path) -> None:
    """Install opencv-python-headless if the system lacks the libraries for windows, or if it was installed before.

    mmengine requires opencv-python by name; the headless package has the same module.
    """
    works = subprocess.run([str(python), '-c', 'import cv2'], capture_output=True).returncode == 0
    versions = probe(python)['versions']
    there = [name for name in ('opencv-python', 'opencv-python-headless') if name in versions]
    if works and len(there) < 2:
        return
    if not there:
        fail('cv2 does not import in the environment, which has no package of opencv')
    say('using opencv-python-headless: ' + ('it was installed' if works else 'the system has no libGL or the like'))
    run([str(python), '-m', 'pip', 'uninstall', '--quiet', '--yes', *there], f'remove {", ".join(there)}')
    pip_install(python, [f'opencv-python-headless=={versions[there[-1]]}'], 'opencv-python-headless')


def lines_of(file: Path) -> list:
    """The requirements in a file."""
    return [line for line in file.read_text().splitlines() if line and not line.startswith('#')]


def name_of(requirement: str) -> str:
    return re.match(r'[\w.-]+', requirement).group().lower()


def version(text: str) -> tuple:
    return tuple(int(number) for number in re.match(r'\d+\.\d+', text).group().split('.'))


def pip_install(python: Path, arguments: list, what: str) -> None:
    if arguments:
        say(f'installing {what}')
        run(
            [str(python), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', *arguments],
            f'install {what}',
        )


def run(command: list, what: str) -> None:
    if subprocess.run(command).returncode:
        fail(f'could not {what}: the reason is above; run again to continue')


def say(text: str) -> None:
    print(f'setup: {text}', flush=True)


def fail(text: str) -> NoReturn:
    print(f'setup: {text}', file=sys.stderr)
    sys.exit(1)


if __name__ == '__main__':
    main()
