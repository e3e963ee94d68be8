"""``dit-sam list-models``: the models of configs/dit_sam/metafile.yml, after those that come with weights."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import mmengine

from ..apis import ASSETS, config_folder
from ..mmengine_extras.diagnostics import one_line_errors

HEADER = ('Model', 'Data', 'oIoU', 'Weights')


def main(arguments: Sequence[str], program: str) -> None:
    """Print a table and where the configs are."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.split(': ', 1)[1])
    parser.parse_args(arguments)
    with one_line_errors():
        rows = list(models(config_folder() / 'dit_sam'))
    widths = [max(map(len, column)) for column in zip(HEADER, *rows)]
    for row in (HEADER, *rows):
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(
        f'\nThe oIoU are those of the paper, not measured here.\nConfigs   {config_folder() / "dit_sam"}/MODEL.py\n'
        f'Weights   {ASSETS}/MODEL.safetensors'
    )


def models(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Name, data set, the paper's oIoU and whether weights come with it, of each model.

    Args:
        folder: Has the configs and metafile.yml.

    Raises:
        FileNotFoundError: There are no configs: neither a checkout nor a complete installation.
    """
    metafile = folder / 'metafile.yml'
    if not metafile.is_file():
        raise FileNotFoundError(
            f'{metafile} not found: install the package anew, or run in a checkout of the repository'
        )
    for path in sorted(ASSETS.glob('*.safetensors')):
        yield path.stem, path.stem.split('_')[-1], '', 'shipped'
    for model in mmengine.load(metafile)['Models']:
        first = model.get('Results', [dict(Dataset='', Metrics={})])[0]
        figure = first['Metrics'].get('oIoU')
        yield model['Name'], first['Dataset'], '' if figure is None else f'{figure:.2f}', ''
