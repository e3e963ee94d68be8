"""How long commands take to answer: help, list, refusal, first mask, and the help of every program.

Prints for each the wall-clock and the CPU seconds of the fastest of a few processes, started one after another.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from dit_sam_cli.arguments import positive

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, '-m', 'dit_sam_cli']
PICTURE = str(ROOT / 'docs' / 'images' / 'shapes.png')


def seconds(command: list[str], folder: str) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a process."""
    usage, start = getrusage(RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, capture_output=True)
    wall, used = time.perf_counter() - start, getrusage(RUSAGE_CHILDREN)
    return wall, used.ru_utime + used.ru_stime - usage.ru_utime - usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=positive, default=3, help='processes of each command')
    args = parser.parse_args()
    commands = {
        'dit-sam --help': [*COMMAND, '--help'],
        'dit-sam list-models': [*COMMAND, 'list-models'],
        'dit-sam infer none.jpg "a star"': [*COMMAND, 'infer', 'none.jpg', 'a star'],
        'dit-sam infer PICTURE "a star"': [*COMMAND, 'infer', PICTURE, 'a star'],
    }
    for folder in ('tools', 'benchmarks', 'reproduction'):
        for path in sorted((ROOT / folder).rglob('*.py')):
            if "if __name__ == '__main__':" in path.read_text(encoding='utf-8'):
                commands[f'{path.relative_to(ROOT)} --help'] = [sys.executable, str(path), '--help']
    print('  wall    CPU')
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands.items():
            wall, cpu = map(min, zip(*(seconds(command, folder) for _ in range(args.rounds))))
            print(f'{wall:6.2f} {cpu:6.2f}  {name}', flush=True)


if __name__ == '__main__':
    main()
