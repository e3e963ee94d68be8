"""The results of scoring as tables and as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prettytable import PrettyTable

from .groups import Grouping
from .rules import RULES
from .sheet import Sheet
from .statistics import Difference, Interval, differences, intervals

# Columns of the table of rules.
COLUMNS = ('oIoU', 'mIoU', 'N-acc', 'T-acc', 'P@0.5', 'P@0.6', 'P@0.7', 'P@0.8', 'P@0.9')
# Columns of the tables of groups.
GROUP_COLUMNS = ('oIoU', 'mIoU', 'boundary IoU', 'P@0.5', 'P@0.7', 'P@0.9')


@dataclass
class Report:
    """All results of a file of predictions.

    Attributes:
        number: Sentences.
        pictures: Pictures.
        rules: Scores in percent by rule.
        total: Intervals under the rule `original`.
        groups: By grouping and group: the number of sentences, the scores under `original`, and intervals.
        differences: By grouping and group, `all` for all sentences: a second model's scores minus these.
        problems: What was wrong with the predictions, a line for each kind.
        notes: What a reader should know.
        ious: The IoU of every sentence under `original`.
        confidence: What the model says about its masks, NaN where it says nothing.
    """

    number: int
    pictures: int
    rules: dict[str, dict[str, float]]
    total: dict[str, Interval]
    groups: dict[str, dict[str, 'Group']]
    differences: dict[str, dict[str, dict[str, Difference]]]
    problems: list[str]
    notes: list[str]
    ious: np.ndarray
    confidence: np.ndarray

    @property
    def columns(self) -> list[str]:
        """The scores of the table of rules. Without a sentence that means nothing, T-acc says nothing either."""
        with_nothing = any('N-acc' in scores for scores in self.rules.values())
        return [name for name in COLUMNS if with_nothing or name not in ('N-acc', 'T-acc')]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(
            sentences=self.number,
            pictures=self.pictures,
            protocols=self.rules,
            intervals={name: vars(one) for name, one in self.total.items()},
            groups={
                title: {name: dict(number=one.number, **one.scores) for name, one in groups.items()}
                for title, groups in self.groups.items()
            },
            group_intervals={
                title: {
                    name: {key: vars(value) for key, value in one.intervals.items()} for name, one in groups.items()
                }
                for title, groups in self.groups.items()
            },
            differences={
                title: {name: {key: vars(value) for key, value in found.items()} for name, found in groups.items()}
                for title, groups in self.differences.items()
            },
            problems=self.problems,
            notes=self.notes,
        )


@dataclass
class Group:
    """The sentences of a group: their number, scores and intervals."""

    number: int
    scores: dict[str, float]
    intervals: dict[str, Interval] = field(default_factory=dict)


def make_report(
    sheet: Sheet,
    groupings: Mapping[str, Grouping],
    rules: tuple[str, ...] = tuple(RULES),
    other: Sheet | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> Report:
    """Score all sentences by every rule, and groups of them by the rule `original`, with intervals.

    Args:
        sheet: The counted pixels.
        groupings: From `groupings` of groups.py.
        rules: Names of `RULES`.
        other: The counted pixels of a second model on the same sentences.
        rounds: Of the bootstrap and of the permutation test.
        seed: Of both.
    """
    original, everything = RULES['original'], np.arange(len(sheet))
    members = {title: _members(sheet, grouping) for title, grouping in groupings.items()}
    # A single group is the total again.
    members = {title: groups for title, groups in members.items() if len(groups) > 1}
    boundary = sheet.boundary_ious()
    compared: dict[str, dict[str, dict[str, Difference]]] = {}
    if other is not None:
        compared['all'] = {'all': differences(sheet, other, original, everything, rounds, seed)}
        compared |= {
            title: {name: differences(sheet, other, original, rows, rounds, seed) for name, rows in groups.items()}
            for title, groups in members.items()
        }

    def group(rows: np.ndarray) -> Group:
        scores = original.scores(sheet.areas(original, rows))
        scores['boundary IoU'] = 100 * float(boundary[rows].mean())
        return Group(len(rows), scores, intervals(sheet, original, rows, rounds, seed))

    return Report(
        number=len(sheet),
        pictures=len(np.unique(sheet.images)),
        rules={name: RULES[name].scores(sheet.areas(RULES[name])) for name in rules},
        total=intervals(sheet, original, everything, rounds, seed),
        groups={title: {name: group(rows) for name, rows in groups.items()} for title, groups in members.items()},
        differences=compared,
        problems=sheet.problems.lines(),
        notes=_notes(sheet),
        ious=sheet.ious(original),
        confidence=sheet.confidence,
    )


def _notes(sheet: Sheet) -> list[str]:
    """How the truth of LAVT and ReLA could be drawn."""
    touched = [pixels for pixels in sheet.covered_twice.values() if pixels]
    without = sum(not known for known in sheet.outlined.values())
    notes = []
    if touched:
        notes.append(
            f'LAVT: of {len(sheet.outlined):,} references {len(touched):,} have pixels that several polygons of an '
            f'object cover, {sum(touched):,} in all, which its code takes for background'
        )
    if without:
        notes.append(
            f'LAVT and ReLA: {without:,} of {len(sheet.outlined):,} references come without polygons, so their masks '
            'are stretched; score with COCO instances and --refs to draw them as these projects do'
        )
    return notes


def _members(sheet: Sheet, grouping: Grouping) -> dict[str, np.ndarray]:
    """The rows of each group, in the order of the names."""
    rows: dict[str, list[int]] = {}
    for row in range(len(sheet)):
        for name in grouping(row):
            rows.setdefault(name, []).append(row)
    return {name: np.array(rows[name]) for name in sorted(rows, key=natural)}


def natural(name: str) -> tuple[int, str]:
    """A sort key: names without a leading number first, then the others by that number."""
    number = name.split(maxsplit=1)[0] if name.strip() else ''
    return (int(number) if number.isdecimal() else -1), name


def summary(report: Report) -> str:
    """All tables, as the command line prints them."""
    parts = [
        f'{report.number:,} sentences about {report.pictures:,} pictures',
        rule_table(report),
        'original, with 95 % intervals: ' + ', '.join(f'{name} {interval}' for name, interval in report.total.items()),
        *report.notes,
        *([difference_table(report)] if report.differences else []),
        *(group_table(report, title) for title in report.groups),
    ]
    return '\n\n'.join(parts)


def rule_table(report: Report) -> str:
    """The scores by every rule."""
    names = report.columns
    table = PrettyTable(['Protocol', *names, 'As in'])
    table.align['Protocol'] = table.align['As in'] = 'l'
    for rule, scores in report.rules.items():
        table.add_row([rule, *(_cell(scores.get(name)) for name in names), RULES[rule].as_in])
    return table.get_string()


def group_table(report: Report, title: str) -> str:
    """The scores of the groups of one kind, with intervals of mIoU."""
    table = PrettyTable([title, 'Number', 'mIoU, 95 %', *GROUP_COLUMNS])
    for name, group in report.groups[title].items():
        interval = group.intervals['mIoU']
        cells = [f'{interval.low:.1f} to {interval.high:.1f}', *(_cell(group.scores.get(one)) for one in GROUP_COLUMNS)]
        table.add_row([name, group.number, *cells])
    return table.get_string()


def difference_table(report: Report) -> str:
    """The second model minus the first."""
    table = PrettyTable(['Second minus first', 'oIoU, 95 %', 'p of oIoU', 'mIoU, 95 %', 'p of mIoU'])
    table.align['Second minus first'] = 'l'
    for title, groups in report.differences.items():
        for index, (name, found) in enumerate(groups.items()):
            cells = [part for key in ('oIoU', 'mIoU') for part in (str(found[key]), f'{found[key].p_value:.3f}')]
            label = name if title == 'all' else f'{title}: {name}'
            table.add_row([label, *cells], divider=index == len(groups) - 1)
    return table.get_string()


def _cell(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'
