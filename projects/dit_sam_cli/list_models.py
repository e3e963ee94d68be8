"""`dit-sam list-models`: list the models that come with weights, then those of configs/dit_sam/metafile.yml."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from .files import mim_folder, package_folder, refuse

HEADER = ('Model', 'Data', 'oIoU', 'Weights')


def main(arguments: Sequence[str], program: str) -> None:
    """Print the models as a table, and where configs and weights are."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.split(': ', 1)[1])
    parser.parse_args(arguments)
    configs, weights = mim_folder() / 'configs' / 'dit_sam', package_folder() / 'assets'
    rows = list(models(configs, weights))
    widths = [max(map(len, column)) for column in zip(HEADER, *rows)]
    for row in (HEADER, *rows):
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print('\nThe oIoU are from the paper; they were not measured here.')
    print(f'Configs   {configs}/MODEL.py\nWeights   {weights}/MODEL.safetensors\nTools     {mim_folder()}/tools')


def models(configs: Path, weights: Path) -> Iterator[tuple[str, str, str, str]]:
    """Name, data set, the paper's oIoU and `shipped`, if weights come with it, of each model."""
    metafile = configs / 'metafile.yml'
    if not metafile.is_file():
        refuse(f'{metafile} not found: reinstall the package, or run in a checkout of the repository')
    for path in sorted(weights.glob('*.safetensors')):
        yield path.stem, path.stem.split('_')[-1], '', 'shipped'
    for model in read_yaml(metafile)['Models']:
        first = model.get('Results', [dict(Dataset='', Metrics={})])[0]
        figure = first['Metrics'].get('oIoU')
        yield model['Name'], first['Dataset'], '' if figure is None else f'{figure:.2f}', ''


def read_yaml(path: Path) -> dict:
    import yaml

    # The parser in C, which not every installation has, is ten times as fast.
    return yaml.load(path.read_text(encoding='utf-8'), getattr(yaml, 'CSafeLoader', yaml.SafeLoader))
