"""`dit-sam score` and tools/analysis_tools/score.py: score the masks of any model."""

import argparse
import json
import os.path as osp
import sys
from collections.abc import Sequence
from typing import Any

from .arguments import positive
from .files import CONFIGS_ARE, check_exists, check_outputs, refuse

# As in `dit_sam.scoring.answers`.
RESIZES = ('none', 'dit', 'nearest')

DESCRIPTION = """Score masks by the protocols of the literature, side by side, with intervals and by kinds of sentences.

PREDICTIONS is a file with an object of JSON a line: "sent_id", or "image" and "sentence"; and "segmentation" (COCO's
RLE or polygons, null for nothing) or "mask" (path of a PNG). The dump of tools/test.py is such a file. Or it is a
folder of PNG files, {image}_{sent_id}.png as tools/test.py --out writes them, or {sent_id}.png.

Missing answers and masks that cannot be used count as empty, are reported, and make the exit status 1."""


def parse_args(arguments: Sequence[str] | None, program: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('predictions', help='file of JSON lines, or folder of PNG files')
    add('--data', required=True, help='a config with a test set, prepared data, lines of JSON, or COCO instances')
    add('--refs', help='references to COCO instances: refs(unc).p, grefs(unc).json, …')
    add('--split', help='split of --refs, default: val')
    add(
        '--images',
        help='folder of the images, for lines of JSON without sizes, and for --worst; default: the current one, and '
        'for lines of JSON that of the file',
    )
    add('--masks', help='folder of the masks that lines of JSON name, default: that of the file')
    add('--instances', help='COCO instances, for names of categories and numbers of distractors')
    add(
        '--resize',
        choices=RESIZES,
        default='none',
        help='masks of another size than the picture: none, they are an error; dit, bilinearly, and every pixel above '
        '0 counts, as in the released DIT; nearest, nearest neighbor',
    )
    add('--against', metavar='PREDICTIONS', help='predictions of a second model: how it differs, with p-values')
    add('--rounds', type=positive, default=1000, help='draws of the bootstrap and of the permutation test')
    add('--seed', type=int, default=0, help='seed of both')
    add('--json', metavar='FILE', help='write all results to this file')
    add('--html', metavar='FILE', help='write a page with plots to this file')
    add('--worst', type=int, default=0, metavar='N', help='draw the N sentences with the lowest IoU')
    add('--out', default='work_dirs/worst', help='folder for these pictures; no file is replaced')
    return parser.parse_args(arguments)


def check_args(args: argparse.Namespace) -> None:
    """Refuse what can be refused without torch."""
    check_exists('predictions', args.predictions, 'name a file of JSON lines, or a folder of PNG files')
    check_exists('data', args.data, CONFIGS_ARE if args.data.endswith('.py') else 'check the path')
    for name in ('against', 'refs', 'instances'):
        if getattr(args, name):
            check_exists(f'--{name}', getattr(args, name))
    read = (args.predictions, args.against, args.data, args.refs, args.instances)
    check_outputs({'--json': args.json, '--html': args.html}, read)
    if args.seed < 0:
        refuse(f'--seed must be 0 or more, got {args.seed}')
    if args.worst < 0:
        refuse(f'--worst must be 0 or more, got {args.worst}')


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> None:
    args = parse_args(arguments, program)
    check_args(args)
    sys.exit(run(args))


def write_files(args: argparse.Namespace, report: Any, truths: Any, sheet: Any) -> list[str]:
    """Write the files that were asked for; return the paths of the pictures."""
    from dit_sam.scoring import draw_worst, write_page
    from dit_sam.utils import atomic_write_text, wrap_write_errors

    if args.json:
        atomic_write_text(args.json, json.dumps(report.as_json(), indent=1) + '\n')
    if args.html:
        atomic_write_text(args.html, write_page(report))
    if not args.worst:
        return []
    with wrap_write_errors(args.out):
        return draw_worst(args.predictions, truths, sheet, args.worst, args.out, args.resize)


def run(args: argparse.Namespace) -> int:
    """Score, print and write; the exit status, 1 if something was wrong with the predictions."""
    from dit_sam import scoring
    from dit_sam.errors import InputError
    from dit_sam.mmengine_extras import prepare_process
    from dit_sam.mmengine_extras.diagnostics import one_line_errors
    from dit_sam.utils import check_file, check_folder

    prepare_process()
    with one_line_errors():
        for path in filter(None, (args.json, args.html)):
            check_file(path)
        if args.worst:
            check_folder(args.out)
        dataset = scoring.open_data(args.data, args.refs, args.split, args.images, args.masks)
        instances = scoring.instances_of(dataset, args.instances)
        truths = scoring.Truths(dataset)
        sheet = scoring.score_answers(args.predictions, truths, resize=args.resize)
        other = scoring.score_answers(args.against, truths, resize=args.resize) if args.against else None
        for path, scored in ((args.predictions, sheet), (args.against, other)):
            if scored is not None and scored.problems.counts.get('missing') == len(truths):
                raise InputError(f'{path} answers none of the {len(truths):,} sentences: {scored.problems.lines()[0]}')
        report = scoring.make_report(
            sheet,
            scoring.groupings(sheet, truths, instances),
            other=other,
            rounds=args.rounds,
            seed=args.seed,
            title=f'{osp.basename(args.predictions)} on {dataset.source}',
            second_title=osp.basename(args.against or ''),
        )
        # Before the tables: whoever reads the output may close it.
        drawn = write_files(args, report, truths, sheet)
        print(scoring.summary(report))
        for line in report.all_problems:
            print(f'problem: {line}', file=sys.stderr)
        if drawn:
            print('\n'.join(['written:', *drawn]))
    return int(bool(report.all_problems))
