"""Annotations of scenes in the formats of RefCOCO and gRefCOCO."""

import numpy as np
from pycocotools import mask as mask_utils

from .polygons import SHAPES, as_rectangles
from .scene_sampling import Scene

# Increased whenever the same arguments no longer give the same bytes.
GENERATOR_VERSION = 2


def annotation_of(scene: Scene, index: int, seen: np.ndarray) -> dict:
    """COCO annotation of an object: its polygon or, if it is partly covered, its visible part as rectangles.

    RLE would be shorter, but REFER's reader needs it in a list, and COCO's own reads no RLE in a list.
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


def symbols_of(scene: Scene) -> dict:
    """A scene as JSON."""
    background = scene.background
    objects = [
        dict(
            shape=obj.shape,
            colour=obj.color,
            size=obj.size,
            texture=obj.texture,
            rgb=list(obj.rgb),
            z=obj.z,
            centre=[round(v, 3) for v in obj.center],
            box=[round(v, 2) for v in obj.box],
            extent=round(obj.extent, 3),
            rotation=round(obj.rotation, 3),
        )
        for obj in scene.objects
    ]
    return dict(
        height=scene.height, width=scene.width, background=[list(color) for color in background.colors], objects=objects
    )


def _ids(target: int | tuple[int, ...], first_ann: int, annotations: list[dict]) -> tuple:
    """`ann_id` and `category_id` of a reference: numbers in RefCOCO, lists in gRefCOCO, [-1] for no target."""
    if isinstance(target, int):
        return first_ann + target, annotations[target]['category_id']
    if not target:
        return [-1], [-1]
    return [first_ann + index for index in target], [annotations[index]['category_id'] for index in target]


def assemble(made: list[dict], split_of: list[str]) -> tuple[dict, list[dict], dict]:
    """Instances, references and symbolic scenes of all pictures, numbered."""
    images: list[dict] = []
    annotations: list[dict] = []
    refs: list[dict] = []
    scenes: list[dict] = []
    sent_id = 0
    for image_id, (item, split) in enumerate(zip(made, split_of), 1):
        scene, first_ann = item['scene'], len(annotations) + 1
        images.append(dict(id=image_id, file_name=item['file_name'], height=scene['height'], width=scene['width']))
        for obj, annotation in zip(scene['objects'], item['annotations']):
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id, **annotation))
            obj['ann_id'] = len(annotations)
        scenes.append(dict(image_id=image_id, file_name=item['file_name'], **scene))
        for target, pairs in item['references']:
            sentences = [
                dict(tokens=text.split(), raw=text, sent_id=number, sent=text, kind=kind)
                for number, (kind, text) in enumerate(pairs, sent_id)
            ]
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
