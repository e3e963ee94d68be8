"""Measure how many small errors in the code the tests detect: `python tests/mutation.py evaluation --sample 150`.

mutmut makes them in a copy of the repository under `work_dirs/mutants`; `make test-mutants` installs it. Each
changed function is tested by the tests of `TESTS` that call it and, if they do not fail, by the tests that start other
programs, in which mutmut cannot count calls. The wording of messages is left alone.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / 'work_dirs' / 'mutants'
# The tests of each package in addition to those of its own folder.
TESTS = {
    'evaluation': (
        'test_mixing/test_mmdet.py',
        'test_scoring',
        'test_mmengine_extras/test_run_check.py',
        'test_shipped_model.py',
    ),
    'datasets': (
        'test_tools/test_mmdet_refcoco.py',
        'test_tools/test_refcoco_converter.py',
        'test_tools/test_data_checks.py',
        'test_tools/test_vocabulary.py',
        'test_robustness',
    ),
    'engine': (
        'test_tools/test_train_test_cli.py',
        'test_tools/test_run_settings.py',
        'test_robustness',
        'test_configs.py',
    ),
    'mmengine_extras': (
        'test_training',
        'test_tools/test_train_test_cli.py',
        'test_tools/test_run_settings.py',
        'test_robustness',
        'test_configs.py',
    ),
    'models': (),
    'utils': (
        'test_models',
        'test_tools/test_model_converters.py',
        'test_tools/test_publish_model.py',
        'test_robustness',
    ),
}
# They start other programs, and only run on errors that the others did not detect.
SLOW = (
    'two_processes',
    'two_ranks',
    'one_rank',
    'exact_resume',
    'deepspeed',
    'sharding',
    'golden_loss',
    'launchers',
    'process_of_its_own',
    'worked_examples',
    'full_size',
    'data_loading_process',
    'sent_again',
    'mixed_precision',
    'safetensors_and_writes',
    'no_checkpoint_gets',
    'tta',
    'compile',
)
# Wording of messages: lines that raise or log, and the continuation lines of their strings.
WORDING = (
    r'raise \w+',
    r'print_log\(',
    r'warnings?\.warn',
    r"""^\s*f?['"].*['"][\s),:]*(from \w+|level=.*|logger=.*)?$""",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('package', choices=TESTS, help='folder of projects/dit_sam')
    parser.add_argument('--sample', type=int, help='how many errors to try, drawn at random; default all')
    parser.add_argument('--seed', type=int, default=0, help='of the draw')
    parser.add_argument('--jobs', type=int, default=2, help='processes')
    args = parser.parse_args()
    make_copy(args.package)
    # A name that matches nothing, so that the errors are made but not tried.
    mutmut('run', 'none', check=False)
    names = sorted(results(args.package))
    if args.sample:
        names = sorted(random.Random(args.seed).sample(names, min(args.sample, len(names))))
    mutmut('run', '--max-children', str(args.jobs), *names)
    codes = results(args.package)
    report(args.package, {name: codes[name] for name in names})


def make_copy(package: str) -> None:
    """Copy the tracked files; mutmut needs the package in `src`."""
    shutil.rmtree(COPY, ignore_errors=True)
    files = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split('\0')):
        target = COPY / name.replace('projects/', 'src/', 1)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    (COPY / 'projects').symlink_to('src')
    settings = ConfigParser()
    settings.read(COPY / 'setup.cfg')
    settings['mutmut'] = dict(
        source_paths='src',
        only_mutate=f'src/dit_sam/{package}/*',
        process_isolation='forkserver',
        timeout_constant='4',
        also_copy=lines(
            *'projects configs tools benchmarks reproduction docs requirements README.md Makefile mkdocs.yml'.split()
        ),
        pytest_add_cli_args=lines('-k', ' and '.join(f'not {name}' for name in SLOW)),
        pytest_add_cli_args_test_selection=lines(*tests_of(package)),
        do_not_mutate_patterns=lines(*WORDING).replace('%', '%%'),
    )
    with open(COPY / 'setup.cfg', 'w') as file:
        settings.write(file)


def tests_of(package: str) -> list[str]:
    return [f'tests/{name}' for name in (f'test_{package}', *TESTS[package])]


def lines(*values: str) -> str:
    return '\n'.join(('', *values))


def mutmut(*arguments: str, check: bool = True) -> str:
    """Run mutmut and return its output. Not written to a file, because a test makes the system refuse large files."""
    done = subprocess.run(
        [sys.executable, '-m', 'mutmut', *arguments],
        cwd=COPY,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if check and done.returncode:
        sys.exit('\n'.join(done.stdout.replace('\r', '\n').splitlines()[-40:]))
    return done.stdout


def results(package: str) -> dict[str, int | None]:
    """For each error the exit status of its tests: 0 if it was not detected, None if it was not tried."""
    files = (COPY / 'mutants' / 'src' / 'dit_sam' / package).rglob('*.meta')
    return {name: code for file in files for name, code in json.loads(file.read_text())['exit_code_by_key'].items()}


def noticed_by_slow_tests(name: str, package: str) -> bool:
    """Whether a test of `SLOW` fails for an error; mutmut activates it by an environment variable, in any process."""
    environment = dict(
        os.environ, OMP_NUM_THREADS='1', MUTANT_UNDER_TEST=name, PYTHONPATH=str(COPY / 'mutants' / 'src')
    )
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-x', '-p', 'no:cacheprovider', '-k', ' or '.join(SLOW), *tests_of(package)],
        cwd=COPY / 'mutants',
        env=environment,
        capture_output=True,
    )
    return done.returncode == 1


def report(package: str, codes: dict[str, int | None]) -> None:
    """Print the share of detected errors, and the others as diffs."""
    # Other statuses: no test calls the function, or time ran out.
    tried = {name: code for name, code in codes.items() if code in (0, 1)}
    alive = [name for name, code in tried.items() if code == 0 and not noticed_by_slow_tests(name, package)]
    for name in alive:
        print(mutmut('show', name))
    noticed = len(tried) - len(alive)
    print(
        f'{package}: {noticed} of {len(tried)} errors were noticed ({noticed / len(tried):.1%}), '
        f'{len(codes) - len(tried)} could not be judged'
    )


if __name__ == '__main__':
    main()
