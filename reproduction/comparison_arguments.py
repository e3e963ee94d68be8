"""The command line of compare_schemes.py."""

import argparse
from pathlib import Path

from comparison_rows import CONTINUE_L_DIT, GROUPS, ROWS

from dit_sam_cli.files import check_exists

# The side of the input, in pixels, of the weights in reproduction/start.
SIZE = 112
TEST_DATA_SEED = 12


def parse_args(about: str) -> argparse.Namespace:
    """The arguments; `about` is the docstring of the program."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/compare_schemes'), help='folder for data, weights and scores'
    )
    groups = ', '.join(GROUPS)
    parser.add_argument(
        '--rows',
        nargs='+',
        choices=[*GROUPS, *ROWS],
        metavar='ROW',
        default=['paper'],
        help=f'rows to run, or groups of rows ({groups}); by default all rows of the paper',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1], help='seeds of every row')
    add_budget(parser)
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time; they share the cores')
    parser.add_argument('--table', action='store_true', help='only print the tables of the finished rows')
    parser.add_argument('--plots', type=Path, help='folder for plots of the finished rows: training, calibration')
    args = parser.parse_args()
    check_args(parser, args)
    args.rows = list(dict.fromkeys(row for name in args.rows for row in GROUPS.get(name, (name,))))
    if not args.table:
        check_runs(parser, args)
    return args


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide what a row reaches."""
    parser.add_argument('--images', type=int, default=6000, help='pictures to train on')
    parser.add_argument('--test-images', type=int, default=400, help='pictures to score on')
    parser.add_argument(
        '--pretrain',
        type=int,
        nargs='?',
        const=3,
        default=0,
        metavar='EPOCHS',
        help='pre-train anew, by default for 3 epochs, instead of using reproduction/start',
    )
    parser.add_argument('--data-seed', type=int, default=11, help='seed of the pictures to train on')
    parser.add_argument(
        '--load-from',
        metavar='CHECKPOINT',
        help='a trained L-DIT from which the rows start, with a new optimizer; {seed} in it is the seed of the row',
    )
    parser.add_argument('--size', type=int, default=SIZE, help='side of the input in pixels, a multiple of 16')
    parser.add_argument('--epochs', type=int, default=2, help='epochs of every row')
    parser.add_argument('--lr', type=float, default=5e-4, help='learning rate of every row')
    parser.add_argument('--warmup', type=int, default=100, help='steps over which the learning rate of a row rises')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='settings for all trainings and tests')
    parser.add_argument('--hard', action='store_true', help='compare on the hard variant of the data')


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with a message if a number is out of its range, or two options exclude each other."""
    for name in ('images', 'test_images', 'size', 'epochs', 'lr', 'warmup', 'jobs'):
        if not getattr(args, name) > 0:
            parser.error(f'--{name.replace("_", "-")} must be more than 0, got {getattr(args, name)}')
    if args.size % 16:
        parser.error(f'--size {args.size} is not a multiple of 16')
    if args.pretrain < 0:
        parser.error(f'--pretrain must be 0 or more, got {args.pretrain}')
    if min(args.seeds) < 0:
        parser.error(f'--seeds must be 0 or more, got {min(args.seeds)}')
    if args.data_seed < 0 or args.data_seed == TEST_DATA_SEED:
        parser.error(f'--data-seed must be 0 or more and not {TEST_DATA_SEED}, the seed of the pictures of the test')
    if args.load_from is not None and args.pretrain:
        parser.error('--load-from and --pretrain exclude each other')
    if args.size != SIZE and not args.pretrain:
        parser.error(f'--size {args.size} needs --pretrain: the weights in reproduction/start are for {SIZE} pixels')


def check_runs(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with a message if a row cannot train on as many sentences as the others, or not from --load-from."""
    for row in args.rows:
        share = ROWS[ROWS[row].weights_of or row].epochs
        if args.epochs % share.denominator:
            parser.error(
                f'{row!r} would take {float(args.epochs * share):g} epochs: --epochs {args.epochs} must be a multiple '
                f'of {share.denominator}, or leave that row out of --rows'
            )
        # E-DIT's weights have the names of L-DIT's, but another meaning.
        if args.load_from is not None and row not in CONTINUE_L_DIT:
            parser.error(f'--load-from is for additions to L-DIT: leave {row!r} out of --rows')
    if args.load_from is not None:
        for seed in args.seeds:
            check_exists('--load-from', start_of(args.load_from, seed))


def start_of(load_from: str, seed: int) -> str:
    """The checkpoint from which the rows of a seed start."""
    return load_from.replace('{seed}', str(seed))
