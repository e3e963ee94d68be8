"""Writer of the data set, in RefCOCO's format or, generalized, in gRefCOCO's."""

import json
import multiprocessing
import os
import pickle
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from .annotations import GENERATOR_VERSION, annotation_of, assemble, symbols_of
from .drawing import draw, visible_masks
from .generalized_grammar import GENERALIZED_KINDS, refer_generalized
from .hard_grammar import HARD_KINDS, hard_sentences
from .scene_sampling import HARD, sample_scene
from .single_target import KINDS, refer

DEFAULT_SPLITS: dict[str, float] = dict(train=0.8, val=0.1, testA=0.05, testB=0.05)
MIN_SIZE = 64


def check_arguments(images: int, seed: int, size: int, splits: dict[str, float], workers: int) -> None:
    """Raise ValueError for arguments that do not define a data set."""
    if images < 1:
        raise ValueError(f'images must be at least 1, got {images}')
    if seed < 0:
        raise ValueError(f'seed must not be negative, got {seed}')
    if size < MIN_SIZE:
        raise ValueError(f'size must be at least {MIN_SIZE} pixels, got {size}')
    if workers < 1:
        raise ValueError(f'workers must be at least 1, got {workers}')
    if not all(share >= 0 for share in splits.values()) or not abs(sum(splits.values()) - 1) < 1e-6:
        shares = ','.join(f'{name}={share:g}' for name, share in splits.items())
        raise ValueError(f'the shares of the splits must not be negative and must sum to 1, got {shares}')


def split_of_images(images: int, seed: int, splits: dict[str, float]) -> list[str]:
    """The split of every image: sizes by the largest remainder, members by a permutation."""
    exact = {name: share * images for name, share in splits.items()}
    counts = {name: int(value + 1e-9) for name, value in exact.items()}
    by_remainder = sorted(splits, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: images - sum(counts.values())]:
        counts[name] += 1
    names = [name for name, count in counts.items() for _ in range(count)]
    return [names[i] for i in np.random.default_rng([seed, 0]).permutation(images)]


def make_image(index: int, folder: str, seed: int, size: int, generalized: bool = False, hard: bool = False) -> dict:
    """Draw picture number `index` (from 1) into `folder`; return its annotations without ids."""
    rng = np.random.default_rng([seed, index])
    references: list = []
    while not references:
        scene = sample_scene(rng, size, HARD) if hard else sample_scene(rng, size)
        references = refer(rng, scene, describe=hard_sentences) if hard else refer(rng, scene)
    if generalized:
        # A separate stream, so that the pictures are the same with and without it.
        references = refer_generalized(np.random.default_rng([seed, index, 1]), scene, references)
    name = f'shapes_{index:06d}.png'
    Image.fromarray(draw(rng, scene)).save(os.path.join(folder, name), compress_level=4)
    annotations = [annotation_of(scene, i, seen) for i, seen in enumerate(visible_masks(scene))]
    return dict(file_name=name, scene=symbols_of(scene), annotations=annotations, references=references)


def _make_all(arguments: dict, workers: int, folder: Path) -> list[dict]:
    images = arguments['images']
    make = partial(
        make_image,
        folder=str(folder),
        seed=arguments['seed'],
        size=arguments['size'],
        generalized=arguments.get('generalized', False),
        hard=arguments.get('hard', False),
    )
    numbers = range(1, images + 1)
    if workers == 1:
        return [make(number) for number in numbers]
    with multiprocessing.Pool(workers) as pool:
        return pool.map(make, numbers, chunksize=max(1, min(64, images // (4 * workers))))


def _count(made: list[dict], split_of: list[str], kinds: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Numbers of images, objects, references and sentences, all and by kind, of every split."""
    table: dict[str, Counter] = {}
    for item, split in zip(made, split_of):
        row = table.setdefault(split, Counter())
        found = [kind for _, pairs in item['references'] for kind, _ in pairs]
        row.update(
            images=1,
            objects=len(item['annotations']),
            references=len(item['references']),
            sentences=len(found),
            **{kind: found.count(kind) for kind in kinds},
        )
    return {split: dict(row) for split, row in table.items()}


def _dump(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, separators=(',', ':')), encoding='ascii')


def _dump_refs(folder: Path, refs: list[dict], generalized: bool) -> None:
    if generalized:
        _dump(folder / 'grefs(unc).json', refs)
        return
    # Pickle writes a string once if it is the same object. A round trip through JSON makes that independent of the
    # processes that made the strings, and so the bytes too.
    plain = json.loads(json.dumps(refs))
    (folder / 'refs(unc).p').write_bytes(pickle.dumps(plain, protocol=2))


def _write_into(folder: Path, arguments: dict, workers: int) -> dict:
    generalized = arguments.get('generalized', False)
    texts = folder / ('gshapes' if generalized else 'shapes')
    (folder / 'images').mkdir(parents=True)
    texts.mkdir()
    made = _make_all(arguments, workers, folder / 'images')
    split_of = split_of_images(arguments['images'], arguments['seed'], arguments['splits'])
    instances, refs, scenes = assemble(made, split_of)
    kinds = HARD_KINDS if arguments.get('hard') else GENERALIZED_KINDS if generalized else KINDS
    table = _count(made, split_of, kinds)
    ordered = {name: table[name] for name in arguments['splits'] if name in table}
    summary = dict(arguments=arguments, counts=ordered)
    _dump(texts / 'instances.json', instances)
    _dump(texts / 'scenes.json', scenes)
    _dump_refs(texts, refs, generalized)
    _dump(texts / 'summary.json', summary)
    return summary


def _existing(out: Path, arguments: dict) -> dict | None:
    """The summary of a finished data set with the same arguments at `out`; None if there is nothing."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    held = 'something else'
    try:
        (path,) = out.glob('*shapes/summary.json')
        found = json.loads(path.read_text(encoding='ascii'))
        if found['arguments'] == arguments:
            return found
        held = 'a shapes data set with other arguments, ' + json.dumps(found['arguments'])
        if dict(found['arguments'], generator=GENERATOR_VERSION) == arguments:
            held = 'this data set, written by another version of the generator'
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise FileExistsError(f'{out} holds {held}: remove it or choose another folder')


def write_shapes(
    out: str | Path,
    images: int,
    seed: int = 0,
    size: int = 160,
    splits: dict[str, float] | None = None,
    workers: int = 1,
    generalized: bool = False,
    hard: bool = False,
) -> dict[str, dict[str, int]]:
    """Write the data set: `images/*.png`, `shapes/instances.json`, `shapes/refs(unc).p` and the symbolic scenes.

    The same arguments give the same bytes with any number of workers. A finished data set with the same arguments is
    kept.

    Args:
        size: Long side of the pictures in pixels.
        splits: Share of the images of every split, by default 80/10/5/5 for train, val, testA and testB.
        generalized: Add sentences that mean several objects or none, with the same pictures. The files are then those
            of gRefCOCO, `gshapes/instances.json` and `gshapes/grefs(unc).json`.
        hard: More and smaller objects that look alike, and sentences with two relations.

    Returns:
        For every split the numbers of images, objects, references and sentences, the latter also by kind.

    Raises:
        ValueError: An argument is out of range, or the data set would be both generalized and hard.
        FileExistsError: `out` holds something else.
        OSError: `out` cannot be written.
    """
    splits = dict(DEFAULT_SPLITS if splits is None else splits)
    check_arguments(images, seed, size, splits, workers)
    if generalized and hard:
        raise ValueError('a data set is either generalized or hard, not both')
    arguments = dict(generator=GENERATOR_VERSION, images=images, seed=seed, size=size, splits=splits)
    if generalized:
        arguments['generalized'] = True
    if hard:
        arguments['hard'] = True
    target = Path(out).resolve()
    found = _existing(target, arguments)
    if found is not None:
        return found['counts']
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
    try:
        summary = _write_into(aside, arguments, workers)
        if target.exists():
            target.rmdir()  # empty; Windows replaces no folder
        os.replace(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return summary['counts']
