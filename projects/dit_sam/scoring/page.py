"""The results of scoring as one HTML file, with plots, that needs nothing else."""

import html
from io import StringIO

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..errors import printable
from .report import Report, difference_rows, group_rows, rule_rows

STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1000px;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child,.text{text-align:left}h2{margin-top:2em}svg{max-width:100%;height:auto}
.problem{color:#a00}"""
COLOR, SECOND = '#1f6fb4', '#d1602a'


def write_page(report: Report) -> str:
    """The page as text."""
    # Names of groups are no formulas.
    with rc_context({'text.parse_math': False}):
        parts = _parts(report)
    title = html.escape(printable(report.title))
    body = '\n'.join([f'<h1>{title}</h1>', *parts])
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>' + (
        f'<style>{STYLE}</style><body>{body}</body></html>\n'
    )


def _parts(report: Report) -> list[str]:
    parts = [
        f'<p>{report.number:,} sentences about {report.pictures:,} pictures.</p>',
        *(f'<p class="problem">{html.escape(line)}</p>' for line in report.all_problems),
        *(f'<p>{html.escape(line)}</p>' for line in report.notes),
        '<h2>Protocols</h2>',
        _table(*rule_rows(report, report.rules)),
        '<p>95 % intervals under <i>original</i>, from pictures drawn with replacement: '
        + ', '.join(f'{name} {interval}' for name, interval in report.total.items())
        + '.</p>',
        '<h2>Distribution</h2>',
        _svg(_histogram(report)),
        _svg(_precision(report)),
    ]
    if report.calibration:
        parts += ['<h2>Calibration</h2>', _svg(_calibration(report))]
    if report.differences:
        parts += [
            f'<h2>Second model: {html.escape(printable(report.second_title))}</h2>',
            _table(*rule_rows(report, report.second_rules)),
            _table(*difference_rows(report)),
        ]
    for name in report.groups:
        parts += [f'<h2>By {html.escape(name)}</h2>', _svg(_bars(report, name)), _table(*group_rows(report, name))]
    return parts


def _table(header: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        classes = [' class="text"' if name == 'As in' else '' for name in header]
        return ''.join(f'<{tag}{name}>{html.escape(printable(cell))}</{tag}>' for cell, name in zip(cells, classes))

    lines = [line(header, 'th'), *(line(row, 'td') for row in rows)]
    return '<table>' + ''.join(f'<tr>{one}</tr>' for one in lines) + '</table>'


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
    figure, axes = _axes(8, 2.6, 'X', 'sentences with IoU > X in %')
    thresholds = np.linspace(0, 1, 101)
    ordered = np.sort(report.ious)
    axes.plot(thresholds, 100 * (1 - np.searchsorted(ordered, thresholds, side='right') / len(ordered)), color=COLOR)
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    return figure


def _calibration(report: Report) -> Figure:
    figure, axes = _axes(5, 4, "the model's score", 'mean IoU')
    axes.plot([0, 1], [0, 1], color='#999', linewidth=1)
    for meant, color in (('an object', COLOR), ('nothing', SECOND)):
        if meant in report.calibration:
            numbers, *points = zip(*filter(None, report.calibration[meant].tenths))
            axes.plot(*points, marker='o', color=color, label=f'sentences that mean {meant}')
            for number, x, y in zip(numbers, *points):
                axes.annotate(f'{number:,}', (x, y), (4, -10), textcoords='offset points', fontsize=7, color=color)
    if 'nothing' in report.calibration:
        axes.legend(frameon=False)
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
    errors = np.nan_to_num(np.abs(ends.T - values))
    axes.barh(list(map(printable, names)), values, color=COLOR, xerr=errors, error_kw=dict(ecolor='#333', capsize=2))
    axes.axvline(report.total['mIoU'].value, color=SECOND, linewidth=1)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    return figure
