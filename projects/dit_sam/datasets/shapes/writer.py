"""Writes the data set to disk in RefCOCO's own format, the generalized one in gRefCOCO's."""

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
from pycocotools import mask as mask_utils

from .drawing import draw, visible_masks
from .generalized import GENERALIZED_KINDS, refer_generalized
from .outlines import SHAPES
from .rectangles import as_rectangles
from .scene import Scene, sample_scene
from .sentences import KINDS, refer

# Raised whenever the same arguments no longer give the same bytes.
GENERATOR_VERSION = 2
DEFAULT_SPLITS: dict[str, float] = dict(train=0.8, val=0.1, testA=0.05, testB=0.05)
MIN_SIZE = 64
# The folder of the texts, of the set as it is and of the generalized one.
_NAMES = {False: 'shapes', True: 'gshapes'}


def check_arguments(images: int, seed: int, size: int, splits: dict[str, float], workers: int) -> None:
    """Raise ValueError, in one line, for arguments that make no data set."""
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
    """The split of every image: shares by the largest remainder, members by a permutation."""
    exact = {name: share * images for name, share in splits.items()}
    counts = {name: int(value + 1e-9) for name, value in exact.items()}
    by_remainder = sorted(splits, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: images - sum(counts.values())]:
        counts[name] += 1
    names = [name for name, count in counts.items() for _ in range(count)]
    return [names[i] for i in np.random.default_rng([seed, 0]).permutation(images)]


def _annotation(scene: Scene, index: int, seen: np.ndarray) -> dict:
    """An unoccluded object keeps its polygon, of an occluded one the visible part is stored in rectangles.

    RLE would be shorter. REFER's reader wants it in a list, and COCO's own reads no RLE in a list.
    """
    obj = scene.objects[index]
    rle = mask_utils.encode(np.asfortranarray(seen, dtype=np.uint8))
    whole = bool((seen == obj.mask).all())
    return dict(
        segmentation=[obj.polygon.ravel().tolist()] if whole else as_rectangles(seen),
        area=float(mask_utils.area(rle)),
        bbox=mask_utils.toBbox(rle).tolist(),
        iscrowd=0,
        category_id=SHAPES.index(obj.shape) + 1,
    )


def _symbols(scene: Scene) -> dict:
    background = scene.background
    objects = [
        dict(
            shape=obj.shape,
            colour=obj.colour,
            size=obj.size,
            texture=obj.texture,
            rgb=list(obj.rgb),
            z=obj.z,
            centre=[round(v, 3) for v in obj.centre],
            box=[round(v, 2) for v in obj.box],
            extent=round(obj.extent, 3),
            rotation=round(obj.rotation, 3),
        )
        for obj in scene.objects
    ]
    return dict(
        height=scene.height,
        width=scene.width,
        background=[list(colour) for colour in background.colours],
        objects=objects,
    )


def make_image(index: int, folder: str, seed: int, size: int, generalized: bool = False) -> dict:
    """Draw picture number `index` (from 1) into `folder`; return all that is written about it, without ids."""
    rng = np.random.default_rng([seed, index])
    scene, references = None, []
    while not references:
        scene = sample_scene(rng, size)
        references = refer(rng, scene)
    if generalized:
        # A stream of its own, so that the pictures are the same with it and without.
        references = refer_generalized(np.random.default_rng([seed, index, 1]), scene, references)
    name = f'shapes_{index:06d}.png'
    Image.fromarray(draw(rng, scene)).save(os.path.join(folder, name), compress_level=4)
    annotations = [_annotation(scene, i, seen) for i, seen in enumerate(visible_masks(scene))]
    return dict(file_name=name, scene=_symbols(scene), annotations=annotations, references=references)


def _make_all(arguments: dict, workers: int, folder: Path) -> list[dict]:
    images = arguments['images']
    make = partial(
        make_image,
        folder=str(folder),
        seed=arguments['seed'],
        size=arguments['size'],
        generalized=arguments.get('generalized', False),
    )
    numbers = range(1, images + 1)
    if workers == 1:
        return [make(number) for number in numbers]
    with multiprocessing.Pool(workers) as pool:
        return pool.map(make, numbers, chunksize=max(1, min(64, images // (4 * workers))))


def _sentence(sent_id: int, kind: str, text: str) -> dict:
    return dict(tokens=text.split(), raw=text, sent_id=sent_id, sent=text, kind=kind)


def _ids(target: int | tuple[int, ...], first_ann: int, annotations: list[dict]) -> tuple:
    """`ann_id` and `category_id` of a reference: numbers in RefCOCO, lists in gRefCOCO, [-1] where nothing is meant."""
    if isinstance(target, int):
        return first_ann + target, annotations[target]['category_id']
    if not target:
        return [-1], [-1]
    return [first_ann + index for index in target], [annotations[index]['category_id'] for index in target]


def _assemble(made: list[dict], split_of: list[str]) -> tuple[dict, list[dict], dict]:
    """Number everything: instances, references and symbolic scenes."""
    images, annotations, refs, scenes = [], [], [], []
    sent_id = 0
    for image_id, (item, split) in enumerate(zip(made, split_of), 1):
        scene, first_ann = item['scene'], len(annotations) + 1
        images.append(dict(id=image_id, file_name=item['file_name'], height=scene['height'], width=scene['width']))
        for obj, annotation in zip(scene['objects'], item['annotations']):
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id, **annotation))
            obj['ann_id'] = len(annotations)
        scenes.append(dict(image_id=image_id, file_name=item['file_name'], **scene))
        for target, pairs in item['references']:
            sentences = [_sentence(sent_id + i, kind, text) for i, (kind, text) in enumerate(pairs)]
            sent_id += len(sentences)
            ann_id, category_id = _ids(target, first_ann, item['annotations'])
            refs.append(
                dict(
                    sent_ids=[sentence['sent_id'] for sentence in sentences],
                    file_name=item['file_name'],
                    ann_id=ann_id,
                    ref_id=len(refs) + 1,
                    image_id=image_id,
                    split=split,
                    sentences=sentences,
                    category_id=category_id,
                )
            )
    categories = [dict(id=i, name=name, supercategory='shape') for i, name in enumerate(SHAPES, 1)]
    instances = dict(
        info=dict(description='shapes: drawn pictures with referring sentences', version=str(GENERATOR_VERSION)),
        licenses=[],
        images=images,
        annotations=annotations,
        categories=categories,
    )
    return instances, refs, dict(images=scenes)


def _count(made: list[dict], split_of: list[str], kinds: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Images, objects, references and sentences (all, and by kind) of every split."""
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
    # Pickle writes a string once if it is the same object: a round trip through JSON makes that sharing, and so the
    # bytes, independent of the processes that made the strings.
    plain = json.loads(json.dumps(refs))
    (folder / 'refs(unc).p').write_bytes(pickle.dumps(plain, protocol=2))


def _write_into(folder: Path, arguments: dict, workers: int) -> dict:
    generalized = arguments.get('generalized', False)
    texts = folder / _NAMES[generalized]
    (folder / 'images').mkdir(parents=True)
    texts.mkdir()
    made = _make_all(arguments, workers, folder / 'images')
    split_of = split_of_images(arguments['images'], arguments['seed'], arguments['splits'])
    instances, refs, scenes = _assemble(made, split_of)
    table = _count(made, split_of, GENERALIZED_KINDS if generalized else KINDS)
    ordered = {name: table[name] for name in arguments['splits'] if name in table}
    summary = dict(arguments=arguments, counts=ordered)
    _dump(texts / 'instances.json', instances)
    _dump(texts / 'scenes.json', scenes)
    _dump_refs(texts, refs, generalized)
    _dump(texts / 'summary.json', summary)
    return summary


def _existing(out: Path, arguments: dict) -> dict | None:
    """The summary of a finished data set of the same arguments at `out`; None where nothing is."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    held = 'something else'
    try:
        (path,) = out.glob('*shapes/summary.json')
        found = json.loads(path.read_text(encoding='ascii'))
        if found['arguments'] == arguments:
            return found
        held = 'a shapes data set of other arguments, ' + json.dumps(found['arguments'])
        if dict(found['arguments'], generator=GENERATOR_VERSION) == arguments:
            held = 'this data set as another version of the generator wrote it'
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
) -> dict[str, dict[str, int]]:
    """Write the data set: `images/*.png`, `shapes/instances.json`, `shapes/refs(unc).p` and the symbolic scenes.

    The same arguments give the same bytes, whatever `workers` is. All is written beside `out` and renamed at the
    end; a finished data set of the same arguments is kept.

    Args:
        size: Long side of the pictures in pixels.
        splits: Share of the images of every split, 80/10/5/5 for train, val, testA and testB by default.
        generalized: Also sentences that mean several objects or none, with the same pictures. The files are then
            those of gRefCOCO, `gshapes/instances.json` and `gshapes/grefs(unc).json`.

    Returns:
        For every split the numbers of images, objects, references and sentences, the latter also by kind.

    Raises:
        ValueError: for arguments out of range.
        FileExistsError: when `out` holds something else.
        OSError: when `out` cannot be written.
    """
    splits = dict(DEFAULT_SPLITS if splits is None else splits)
    check_arguments(images, seed, size, splits, workers)
    arguments = dict(generator=GENERATOR_VERSION, images=images, seed=seed, size=size, splits=splits)
    if generalized:
        arguments['generalized'] = True
    target = Path(out).resolve()
    found = _existing(target, arguments)
    if found is not None:
        return found['counts']
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
    try:
        summary = _write_into(aside, arguments, workers)
        os.replace(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return summary['counts']
