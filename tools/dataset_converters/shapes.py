"""Writes the generated `shapes` data set in RefCOCO's own format, or its generalized variant in gRefCOCO's."""

import argparse
import importlib.util
import os
import sys
import traceback

from dit_sam_cli.files import package_folder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', required=True, help='folder to write; kept when it holds just this data set already')
    parser.add_argument('--images', type=int, default=10000, help='number of pictures')
    parser.add_argument('--seed', type=int, default=1, help='0 made the pictures that the shipped weights saw')
    parser.add_argument('--size', type=int, default=160, help='long side of the pictures in pixels')
    parser.add_argument(
        '--splits', default='train=0.8,val=0.1,testA=0.05,testB=0.05', help='share of the pictures of every split'
    )
    parser.add_argument('--generalized', action='store_true', help='also sentences with several answers and with none')
    parser.add_argument(
        '--hard', action='store_true', help='more objects that look alike, sentences with two relations'
    )
    parser.add_argument('--workers', type=int, default=2, help='processes; the result does not depend on them')
    return parser.parse_args()


if __name__ == '__main__':
    # Before numpy and OpenCV are imported.
    ARGS = parse_args()


def _load_shapes():
    """`dit_sam.datasets.shapes` on its own: importing it by name would import the whole package, and torch with it."""
    folder = package_folder() / 'datasets' / 'shapes'
    spec = importlib.util.spec_from_file_location(
        'dit_sam_shapes', folder / '__init__.py', submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# At module level, so that worker processes find it too.
shapes = _load_shapes()


def parse_splits(text: str) -> dict[str, float]:
    """{'train': 0.8, 'val': 0.2} of 'train=0.8,val=0.2'."""
    try:
        pairs = [part.split('=') for part in text.split(',')]
        splits = {name.strip(): float(share) for name, share in pairs}
    except ValueError as error:
        raise ValueError(f"--splits takes name=share,name=share, got '{text}'") from error
    if len(splits) < len(pairs) or not all(splits):
        raise ValueError(f"--splits has a name twice or an empty one: '{text}'")
    return splits


def print_table(counts: dict[str, dict[str, int]]) -> None:
    columns = list(next(iter(counts.values())))
    total = {column: sum(row[column] for row in counts.values()) for column in columns}
    print('split'.ljust(8) + ''.join(column.rjust(12) for column in columns))
    for split, row in [*counts.items(), ('all', total)]:
        print(split.ljust(8) + ''.join(str(row[column]).rjust(12) for column in columns))


def main(args: argparse.Namespace) -> int:
    try:
        splits = parse_splits(args.splits)
        counts = shapes.write_shapes(
            args.out, args.images, args.seed, args.size, splits, args.workers, args.generalized, args.hard
        )
    except (OSError, ValueError) as error:
        # As in the other tools, which import the package.
        if os.environ.get('DIT_SAM_DEBUG') == '1':
            traceback.print_exc()
        print(f'shapes: {error}', file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    print_table(counts)
    print(f'shapes: in {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main(ARGS))
