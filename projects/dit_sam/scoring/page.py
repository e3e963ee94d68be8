"""The results of scoring as one HTML file, with plots, that needs nothing else."""

import html
from io import StringIO

import numpy as np
from matplotlib.figure import Figure

from .report import GROUP_COLUMNS, Report
from .rules import RULES

STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1000px;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child,.text{text-align:left}h2{margin-top:2em}svg{max-width:100%;height:auto}
.problem{color:#a00}"""
COLOR, SECOND = '#1f6fb4', '#d1602a'


def write_page(report: Report, title: str) -> str:
    """The page as text.

    Args:
        report: The results.
        title: What was scored on what, in one line.
    """
    parts = [
        f'<h1>{html.escape(title)}</h1>',
        f'<p>{report.number:,} sentences about {report.pictures:,} pictures.</p>',
        *(f'<p class="problem">{html.escape(line)}</p>' for line in report.problems),
        *(f'<p>{html.escape(line)}</p>' for line in report.notes),
        '<h2>Protocols</h2>',
        _rules(report),
        '<p>95 % intervals under <i>original</i>, from pictures drawn with replacement: '
        + ', '.join(f'{name} {interval}' for name, interval in report.total.items())
        + '.</p>',
        '<h2>Distribution</h2>',
        _svg(_histogram(report)),
        _svg(_precision(report)),
    ]
    if np.isfinite(report.confidence).any():
        parts += ['<h2>Calibration</h2>', _svg(_calibration(report))]
    if report.differences:
        parts += ['<h2>Second model minus first</h2>', _differences(report)]
    for name in report.groups:
        parts += [f'<h2>By {html.escape(name)}</h2>', _svg(_bars(report, name)), _groups(report, name)]
    body = '\n'.join(parts)
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>' + (
        f'<style>{STYLE}</style><body>{body}</body></html>\n'
    )


def _table(header: list[str], rows: list[list[str]], text: tuple[int, ...] = ()) -> str:
    def line(cells: list[str], tag: str) -> str:
        classes = [' class="text"' if i in text else '' for i in range(len(cells))]
        return ''.join(f'<{tag}{name}>{html.escape(cell)}</{tag}>' for cell, name in zip(cells, classes))

    lines = [line(header, 'th'), *(line(row, 'td') for row in rows)]
    return '<table>' + ''.join(f'<tr>{one}</tr>' for one in lines) + '</table>'


def _rules(report: Report) -> str:
    names = report.columns
    rows = [
        [rule, *(f'{scores[name]:.2f}' if name in scores else '–' for name in names), RULES[rule].as_in]
        for rule, scores in report.rules.items()
    ]
    return _table(['Protocol', *names, 'As in'], rows, (len(names) + 1,))


def _groups(report: Report, title: str) -> str:
    rows = [
        [
            name,
            f'{group.number:,}',
            *(f'{group.scores[one]:.1f}' if one in group.scores else '–' for one in GROUP_COLUMNS),
        ]
        for name, group in report.groups[title].items()
    ]
    return _table([title, 'Number', *GROUP_COLUMNS], rows)


def _differences(report: Report) -> str:
    rows = [
        [
            name if title == 'all' else f'{title}: {name}',
            *(cell for one in ('oIoU', 'mIoU') for cell in (str(found[one]), f'{found[one].p_value:.3f}')),
        ]
        for title, groups in report.differences.items()
        for name, found in groups.items()
    ]
    return _table(['Sentences', 'oIoU, 95 %', 'p of oIoU', 'mIoU, 95 %', 'p of mIoU'], rows)


def _svg(figure: Figure) -> str:
    text = StringIO()
    figure.savefig(text, format='svg', bbox_inches='tight', metadata=dict(Date=None))
    return text.getvalue()[text.getvalue().index('<svg') :]


def _axes(width: float, height: float, x: str, y: str) -> tuple:
    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[['top', 'right']].set_visible(False)
    return figure, axes


def _histogram(report: Report) -> Figure:
    figure, axes = _axes(8, 2.6, 'IoU', 'sentences')
    axes.hist(report.ious, bins=np.linspace(0, 1, 21).tolist(), color=COLOR)
    return figure


def _precision(report: Report) -> Figure:
    figure, axes = _axes(8, 2.6, 'X', 'share with IoU > X in %')
    thresholds = np.linspace(0, 1, 101)
    ordered = np.sort(report.ious)
    axes.plot(thresholds, 100 * (1 - np.searchsorted(ordered, thresholds, side='right') / len(ordered)), color=COLOR)
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    return figure


def _calibration(report: Report) -> Figure:
    figure, axes = _axes(5, 4, "the model's score", 'mean IoU')
    known = np.isfinite(report.confidence)
    scores, ious = report.confidence[known], report.ious[known]
    place = np.clip((scores * 10).astype(int), 0, 9)
    used = [i for i in range(10) if (place == i).any()]
    axes.plot([0, 1], [0, 1], color='#999', linewidth=1)
    axes.plot(
        [scores[place == i].mean() for i in used], [ious[place == i].mean() for i in used], marker='o', color=COLOR
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return figure


def _bars(report: Report, title: str) -> Figure:
    """mIoU of each group with its interval, the largest groups first if there are many."""
    groups = report.groups[title]
    names = list(groups)
    if len(names) > 25:
        largest = set(sorted(names, key=lambda name: -groups[name].number)[:25])
        names = [name for name in names if name in largest]
    figure, axes = _axes(8, 0.6 + 0.28 * len(names), 'mIoU', '')
    values = np.array([groups[name].scores['mIoU'] for name in names])
    ends = np.array([(groups[name].intervals['mIoU'].low, groups[name].intervals['mIoU'].high) for name in names])
    errors = np.abs(ends.T - values)
    axes.barh(names, values, color=COLOR, xerr=errors, error_kw=dict(ecolor='#333', capsize=2))
    axes.axvline(report.total['mIoU'].value, color=SECOND, linewidth=1)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    return figure
