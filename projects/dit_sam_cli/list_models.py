"""``dit-sam list-models``: list the models that have weights, then all configs, with the papers' scores."""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .files import mim_folder, package_folder, refuse

WEIGHTS_HEADER = ('Model', 'Task', 'Size', 'License', 'oIoU', 'Weights')
CONFIGS_HEADER = ('Config', 'Data', 'oIoU')


def main(arguments: Sequence[str], program: str) -> None:
    """Print the models as tables, and where configs and weights are."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.split(': ', 1)[1])
    parser.parse_args(arguments)
    folder, families = mim_folder(), read_metafiles()
    print_table(WEIGHTS_HEADER, [*shipped(package_folder() / 'assets'), *released(families)])
    print('\n`dit-sam infer IMAGE SENTENCE --model MODEL` takes these; without --model it takes ldit_vit-t_shapes.\n')
    print_table(CONFIGS_HEADER, list(configs(families)))
    print('\nThe oIoU are from the papers, in percent; they were not measured here.')
    print(f'Configs   {folder}/configs/CONFIG.py\nTools     {folder}/tools')


def check_model(name: str) -> None:
    """Refuse a name of --model that is neither a folder, nor looks like a repository, nor is listed."""
    if '/' in name or Path(name).is_dir():
        return
    known = [row[0] for row in (*shipped(package_folder() / 'assets'), *released(read_metafiles()))]
    if name not in known:
        refuse(
            f'no model at {name!r}: it is neither a folder, nor user/name or user/name@revision of a hub, nor one of '
            + ', '.join(known)
        )


def shipped(assets: Path) -> Iterator[tuple[str, ...]]:
    """The models that come with the package: they know drawings of shapes."""
    for path in sorted(assets.glob('*.safetensors')):
        task = 'any number of shapes in a drawing' if 'gshapes' in path.stem else 'one shape in a drawing'
        yield path.stem, task, size(path.stat().st_size), 'Apache-2.0', '', 'in the package'


def released(families: Sequence[tuple[str, dict]]) -> Iterator[tuple[str, ...]]:
    """The models that the metafiles name, which `--model` fetches."""
    for _, family in families:
        licenses = {each['Name']: each['Metadata'].get('License', '') for each in family['Collections']}
        for model in family['Models']:
            about = model.get('Metadata', {})
            if 'Released As' not in about:
                continue
            best = next(each for each in model['Results'] if each['Dataset'] == 'RefCOCO testA')
            where = model['Weights'].rpartition('/')[0]
            here = 'fetched from' if is_cached(model['Weights']) else 'fetched at first use from'
            yield (
                about['Released As'],
                about['Task'],
                # Two bytes for each parameter where the size of the file is not known.
                size(about.get('Size', 2 * about['Parameters'])),
                licenses[model['In Collection']],
                f'{best["Metrics"]["oIoU"]:.1f} (RefCOCO testA)',
                f'{here} {where}',
            )


def configs(families: Sequence[tuple[str, dict]]) -> Iterator[tuple[str, ...]]:
    """Folder and name of each config, with data set and score if it is one of a paper."""
    for folder, family in families:
        for model in family['Models']:
            first = model.get('Results', [dict(Dataset='', Metrics={})])[0]
            figure = first['Metrics'].get('oIoU')
            yield f'{folder}/{model["Name"]}', first['Dataset'], '' if figure is None else f'{figure:.2f}'
        known = {model['Name'] for model in family['Models']}
        others = {path.stem for path in (mim_folder() / 'configs' / folder).glob('*.py')} - known
        yield from ((f'{folder}/{name}', '', '') for name in sorted(others))


def is_cached(address: str) -> bool:
    """Whether a file of the hub is in the local cache, where huggingface_hub keeps it."""
    user, name, file = address.removeprefix('hf://').split('/', 2)
    home = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'huggingface'
    cache = os.environ.get('HF_HUB_CACHE') or Path(os.environ.get('HF_HOME') or home) / 'hub'
    return any(Path(cache).glob(f'models--{user}--{name}/snapshots/*/{file}'))


def size(number: int) -> str:
    """Bytes for readers: '8.2 MB'."""
    return f'{number / 1e9:.1f} GB' if number >= 1e9 else f'{number / 1e6:.1f} MB'


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns that are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    for row in (header, *rows):
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def read_metafiles() -> list[tuple[str, dict]]:
    """The folder and the content of every metafile.yml."""
    import yaml

    folder = mim_folder() / 'configs'
    paths = sorted(folder.glob('*/metafile.yml'))
    if not paths:
        refuse(f'{folder} has no metafile.yml: reinstall the package, or run in a checkout of it')
    # The parser in C, which not every installation has, is ten times as fast.
    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    return [(path.parent.name, yaml.load(path.read_text(encoding='utf-8'), loader)) for path in paths]
