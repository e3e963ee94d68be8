"""`dit-sam list-models`: list the models that come with weights, then those of configs/dit_sam/metafile.yml."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import mmengine

from ..apis import ASSETS, config_folder
from ..mmengine_extras.diagnostics import one_line_errors

HEADER = ('Model', 'Data', 'oIoU', 'Weights')


def main(arguments: Sequence[str], program: str) -> None:
    """Print the models as a table, and where configs and weights are."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.split(': ', 1)[1])
    parser.parse_args(arguments)
    with one_line_errors():
        rows = list(models(config_folder() / 'dit_sam'))
    widths = [max(map(len, column)) for column in zip(HEADER, *rows)]
    for row in (HEADER, *rows):
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print('\nThe oIoU are from the paper; they were not measured here.')
    print(f'Configs   {config_folder() / "dit_sam"}/MODEL.py\nWeights   {ASSETS}/MODEL.safetensors')


def models(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Name, data set, the paper's oIoU and `shipped`, if weights come with it, of each model.

    Raises:
        FileNotFoundError: The folder of the configs has no metafile.yml.
    """
    metafile = folder / 'metafile.yml'
    if not metafile.is_file():
        raise FileNotFoundError(f'{metafile} not found: reinstall the package, or run in a checkout of the repository')
    for path in sorted(ASSETS.glob('*.safetensors')):
        yield path.stem, path.stem.split('_')[-1], '', 'shipped'
    for model in mmengine.load(metafile)['Models']:
        first = model.get('Results', [dict(Dataset='', Metrics={})])[0]
        figure = first['Metrics'].get('oIoU')
        yield model['Name'], first['Dataset'], '' if figure is None else f'{figure:.2f}', ''
