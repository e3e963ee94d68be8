"""The plots of a comparison, from the JSON files of its finished runs."""

from pathlib import Path

import numpy as np
from comparison_results import Results
from comparison_rows import NORMED, NORMED_IMAGE, TUNED
from matplotlib.figure import Figure

from dit_sam.utils import atomic_write, wrap_write_errors


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Write `training.png` of the tuned rows, and `calibration.png` of those that predict their IoU, if there are any.

    Returns the files.

    Raises:
        InputError: The folder cannot be written to.
    """
    trained = {
        row: [run for run in results.get(row, {}).values() if run.get('training_iou')] for row in (*TUNED, *NORMED)
    }
    trained = {row: runs for row, runs in trained.items() if runs}
    fits = [scores['calibration'] for found in results.values() for scores in found.values() if 'calibration' in scores]
    figures = dict(training=plot_training(trained) if trained else None, calibration=plot_fits(fits) if fits else None)
    files = {folder / f'{name}.png': figure for name, figure in figures.items() if figure}
    for path, figure in files.items():
        with wrap_write_errors(path), atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=100, format='png')
    return list(files)


def plot_training(rows: dict[str, list[dict]]) -> Figure:
    """The mean IoU in training, a line for each run, in the color of its row; dashed if the image is normed."""
    figure = Figure(figsize=(9, 4), layout='constrained')
    axes = figure.add_subplot(xlabel='epoch', ylabel='mean IoU in training in %')
    colors = {row: f'C{number}' for number, row in enumerate(TUNED)}
    for row, runs in rows.items():
        look = dict(color=colors[row.removesuffix(NORMED_IMAGE)], linestyle='--' if row in NORMED else '-')
        for i, run in enumerate(runs):
            ious = run['training_iou']
            middles = (np.arange(len(ious)) + 0.5) * run['epochs'] / len(ious)
            axes.plot(middles, ious, linewidth=1.5, label=None if i else row, **look)
    axes.set_xlim(0)
    axes.grid(alpha=0.3)
    figure.legend(loc='outside right upper', frameon=False, fontsize=8)
    return figure


def plot_fits(fits: list[dict]) -> Figure:
    """Mean IoU over predicted IoU, and how many sentences have each tenth of it; a line for each run."""
    figure = Figure(figsize=(7, 5), layout='constrained')
    upper, lower = figure.subplots(2, height_ratios=(2, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color='#999', linewidth=1)
    for i, fit in enumerate(fits):
        points = np.array([tenth[1:] for tenth in fit['object']['tenths'] if tenth])
        upper.plot(*points.T, marker='o', color='C0')
        for kind, meant, color in (('object', 'an object', 'C0'), ('nothing', 'nothing', 'C1')):
            counts = np.array([tenth[0] if tenth else 0 for tenth in fit[kind]['tenths']])
            label = None if i else f'sentences that mean {meant}'
            lower.stairs(100 * counts / max(1, counts.sum()), np.linspace(0, 1, 11), color=color, label=label)
    upper.set(ylabel='mean IoU', xlim=(0, 1), ylim=(0, 1))
    lower.set(xlabel='predicted IoU', ylabel='sentences in %')
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    lower.legend(fontsize=8)
    return figure
