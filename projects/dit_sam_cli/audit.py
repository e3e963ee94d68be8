"""`dit-sam audit` and tools/analysis_tools/audit.py: say which evaluation pictures a model was trained on."""

import argparse
import json
import os.path as osp
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from typing import Any

from .arguments import let_threads_yield
from .files import check_exists, check_outputs

DESCRIPTION = """Say which pictures of evaluation sets are among those that a model was trained on.

A source is a file of references (refs(*).p, grefs(*).json), a prepared file (.safetensors), lines of JSON (.jsonl:
image and, if there is one, image_id), COCO instances (.json), a text of image ids or file names, one a line (.txt), or
a folder of references and prepared files. Of sources with splits, --train takes the split train and --test all others;
FILE:SPLIT, FILE:SPLIT,SPLIT and FILE:all take these. An argument that exists as it stands is a path without a split.

Pictures are matched by COCO's number in the id or file name, or else by id, or by file name without folder and suffix.
No image is opened, and nothing in a pickle is run."""
STATUS = """exit status: 0 if no picture was trained on; 1 if one was, or for bad input, with an error on stderr; 2 for
a wrong command line. Pictures that cannot be compared do not count as trained on: read the last line."""
HEADER = (
    *('evaluation set', 'split', 'pictures', 'trained on', '%', 'by id', 'by name only'),
    *('references', 'sentences', 'same id, other name', 'unknown'),
)


def parse_args(arguments: Sequence[str] | None, program: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program, description=DESCRIPTION, epilog=STATUS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--train', nargs='+', action='extend', required=True, metavar='SOURCE', help='what the model was trained on')
    add('--test', nargs='+', action='extend', required=True, metavar='SOURCE', help='what it is evaluated on')
    add('--json', metavar='FILE', help='write everything to FILE, with all pictures that were trained on')
    add('--list', type=int, default=3, metavar='N', help='pictures to name for each set, default: 3')
    args = parser.parse_args(arguments)
    if args.list < 0:
        parser.error(f'--list must be 0 or more, got {args.list}')
    return args


def parse_source(text: str) -> tuple[str, list[str]]:
    """The path and the splits of FILE:SPLIT,SPLIT. What exists as it stands is a path, colons or not."""
    path, colon, splits = text.rpartition(':')
    if not colon or osp.exists(text) or not osp.exists(path):
        return text, []
    return path, splits.split(',')


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> None:
    """Run a command line, by default the program's own; exit with 1 for pictures that were trained on."""
    args = parse_args(arguments, program)
    sources = {option: list(map(parse_source, getattr(args, option))) for option in ('train', 'test')}
    for option, named in sources.items():
        for path, _ in named:
            check_exists(f'--{option}', path)
    # What packages print goes to stderr, so that stdout has only the report.
    with redirect_stdout(sys.stderr):
        let_threads_yield()
        from dit_sam.mmengine_extras.diagnostics import one_line_errors

        with one_line_errors(OSError):
            trained, reports = run(args.json, **sources)
    print(*report(trained, reports, args.list), sep='\n', flush=True)
    sys.exit(int(any(each.leaks for each in reports)))


def run(json_file: str | None, train: Sequence, test: Sequence) -> tuple[list, list]:
    """The training sets and the reports of `dit_sam.datasets.audit`, also written to a file if there is one."""
    from dit_sam.datasets.audit import audit
    from dit_sam.utils import atomic_write_text, check_file

    if json_file:
        check_file(json_file)
        check_outputs({'--json': json_file}, [path for path, _ in (*train, *test)])
    trained, reports = audit(train, test)
    if json_file:
        content = dict(
            train=[
                dict(source=each.source, split=each.split, pictures=len(each.pictures), unknown=len(each.unknown))
                for each in trained
            ],
            test=[each.as_dict() for each in reports],
        )
        # ASCII, because a text of a damaged pickle may be no Unicode.
        atomic_write_text(json_file, json.dumps(content, indent=1) + '\n')
    return trained, reports


def report(trained: Sequence[Any], reports: Sequence[Any], number: int) -> Iterator[str]:
    """The lines to print: a table, examples, and the result in words."""
    from prettytable import PrettyTable

    from dit_sam.errors import printable

    table = PrettyTable(HEADER, align='r')
    table.align['evaluation set'] = table.align['split'] = 'l'
    for each in reports:
        row = each.as_dict()
        share = f'{100 * row["trained_on"] / row["pictures"]:.1f}'
        affected = [
            f'{row[f"{name}_affected"]:,} of {row[name]:,}' if row[name] else '-'
            for name in ('references', 'sentences')
        ]
        counts = [f'{row[name]:,}' for name in ('trained_on', 'by_id', 'by_file_name', 'same_id_other_name', 'unknown')]
        cells = [f'{row["pictures"]:,}', counts[0], share, *counts[1:3], *affected, *counts[3:]]
        table.add_row([printable(row['source']), printable(row['split']) or '-', *cells])
    yield table.get_string()
    yield from map(printable, [*examples(trained, reports, number), conclusion(trained, reports)])


def examples(trained: Sequence[Any], reports: Sequence[Any], number: int) -> Iterator[str]:
    """Pictures by name: `number` of each set that were trained on, and one of each other kind."""
    for each in reports:
        for leak in each.leaks[:number]:
            yield f'trained on: {each.images.name}: {named(leak.picture)}, by {leak.by} in {" and ".join(leak.train)}'
        for other in each.other_names[:1]:
            yield (
                f'same id, other file name: {each.images.name}: {named(other.picture)}, in {" and ".join(other.train)}'
            )
        for picture in each.unknown[:1]:
            yield f'unknown: {each.images.name}: {named(picture)} is one of {len(each.unknown):,} without a number'
    for each in trained:
        for picture in each.unknown[:1]:
            yield (
                f'unknown in training: {each.name}: {named(picture)} is one of {len(each.unknown):,} without a number, '
                'compared by name only'
            )


def conclusion(trained: Sequence[Any], reports: Sequence[Any]) -> str:
    """The result in words."""
    leaks, others, unknown = (
        sum(len(getattr(each, name)) for each in reports) for name in ('leaks', 'other_names', 'unknown')
    )
    pictures, leaky = sum(len(each.images.pictures) for each in reports), sum(bool(each.leaks) for each in reports)
    text = f'None of the {pictures:,} evaluation pictures was found in the training sets.'
    if leaks:
        text = (
            f'Trained on: {leaks:,} of the {pictures:,} evaluation pictures, in {leaky} of {len(reports)} sets; '
            'these are not unseen pictures.'
        )
    common = [leak for each in reports for leak in each.common_names]
    if common:
        text += (
            f' Of these, agree only in a file name that is not of COCO: {len(common):,}, such as '
            f'{common[0].picture.file_name}; look at some of them.'
        )
    if unknown:
        text += f' Cannot be compared, without a number and a name that is in training: {unknown:,}.'
    if others:
        text += (
            f' Same id as a training picture, other file name: {others:,}; these are leaks if files were renamed, and '
            'other pictures if the ids are of two numberings.'
        )
    blind = sum(len(each.unknown) for each in trained)
    if blind:
        text += f' Training pictures without a number, which may be any evaluation picture: {blind:,}.'
    return text


def named(picture: Any) -> str:
    """The id and the file name of a picture, as far as there are any."""
    image_id, name = str(picture.image_id), picture.file_name
    return f'{image_id} ({name})' if image_id and name and image_id != name else image_id or name
