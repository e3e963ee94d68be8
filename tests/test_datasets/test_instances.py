"""Damaged instances and references, and ones that do not fit each other: each is named."""

import os
from pathlib import Path

import pytest

from dit_sam.datasets import RefCOCODataset


def without_image(content, refs):
    del content['images'][0]


def without_annotation(content, refs):
    del content['annotations'][0]


def of_another_image(content, refs):
    refs[1]['image_id'] = 2


def blank_sentence(content, refs):
    refs[0]['sentences'][1]['sent'] = ' \t'


def no_sentence(content, refs):
    refs[2]['sentences'] = []


def two_points(content, refs):
    content['annotations'][0]['segmentation'].append([1, 2, 3, 4])


def odd_numbers(content, refs):
    content['annotations'][0]['segmentation'] = [[1, 2, 3, 4, 5, 6, 7]]


def no_polygon(content, refs):
    content['annotations'][0]['segmentation'] = []


def half_an_rle(content, refs):
    del content['annotations'][1]['segmentation']['size']


def no_height(content, refs):
    del content['images'][2]['height']


def no_segmentation(content, refs):
    del content['annotations'][0]['segmentation']


def twice(content, refs):
    content['annotations'].append(dict(content['annotations'][0], segmentation=[[1, 2, 3, 4, 5, 6]]))


def no_annotations(content, refs):
    del content['annotations']


def no_number(content, refs):
    content['annotations'][0]['segmentation'] = [[1, 2, 3, 4, 5, float('nan')]]


def far_away(content, refs):
    content['annotations'][0]['segmentation'] = [[1, 2, 3, 4, 5, 1e9]]


def short_rle(content, refs):
    content['annotations'][1]['segmentation']['counts'] = [80, 40]


def rle_of_another_size(content, refs):
    content['annotations'][1]['segmentation']['size'] = [60, 40]


def no_size(content, refs):
    content['images'][0]['height'] = 'forty'


def mixed_ids(content, refs):
    refs[1]['ref_id'] = 'two'


def one_object(content, refs):
    content['annotations'] = content['annotations'][0]


def no_list(content, refs):
    content['images'] = None


def no_object(content, refs):
    content['annotations'][0] = None


def text_as_annotation(content, refs):
    refs[1]['ann_id'] = '11'


def text_as_image(content, refs):
    content['images'][0]['id'] = '1'


def text_as_image_of_annotation(content, refs):
    content['annotations'][0]['image_id'] = '1'


@pytest.mark.parametrize(
    'edit, message',
    [
        (without_image, 'has no image_id 1: the two files do not belong together (reference 1 of'),
        (without_annotation, 'has no ann_id 11: the two files do not belong together (reference 1 of'),
        (of_another_image, 'annotation 11 is of image 1, not 2 (reference 2 of'),
        (blank_sentence, 'sentence 11 is blank (reference 1 of'),
        (no_sentence, 'no sentence (reference 3 of'),
        (two_points, 'annotation 11 has a polygon of 4 numbers: at least 3 points'),
        (odd_numbers, 'annotation 11 has a polygon of 7 numbers'),
        (no_polygon, 'annotation 11 has no polygon and no RLE'),
        (no_number, 'annotation 11 has a polygon of which not all coordinates are numbers'),
        (far_away, 'annotation 11 has a polygon far outside of its image of 40 x 60 pixels'),
        (half_an_rle, 'annotation 12 has an RLE without the keys "size" and "counts"'),
        (short_rle, 'annotation 12 has an RLE whose runs do not fill 40 x 60 pixels'),
        (rle_of_another_size, 'annotation 12 has an RLE of size [60, 40], but its image is [40, 60]'),
        (no_size, "image 1 has the file_name 'COCO_train2014_000000000001.jpg', height 'forty'"),
        (
            mixed_ids,
            "references.ref_id: found int (3) and str ('two'), but ids must be whole numbers or texts, all of one type",
        ),
        (
            text_as_annotation,
            "has no ann_id '11': the two files do not belong together, as '11' is str in one, int in the "
            'other (reference 2 of',
        ),
        (
            text_as_image,
            'has no image_id 1: the two files do not belong together, as 1 is int in one, str in the other',
        ),
        (text_as_image_of_annotation, "annotation 11 is of image '1', not 1, as 1 is int in one, str in the other"),
        (no_height, "image_id 3 lacks the key 'height' (reference 6 of"),
        (no_segmentation, "ann_id 11 lacks the key 'segmentation' (reference 1 of"),
        (twice, 'ann_id 11 occurs twice with different content (reference 1 of'),
        (one_object, 'a list of objects with image_id, segmentation is needed, got dict'),
        (no_list, 'a list of objects with file_name, height, width is needed, got NoneType'),
        (no_object, 'has no ann_id 11: the two files do not belong together (reference 1 of'),
        (no_annotations, "the key 'annotations' is missing"),
    ],
)
def test_bad_item_is_named(write_refcoco, edit, message):
    root = write_refcoco(edit)
    with pytest.raises(ValueError) as caught:
        for split in ('train', 'testA'):
            RefCOCODataset(root, split=split)
    assert message in str(caught.value) and os.path.join(root, 'refcoco') in str(caught.value)


@pytest.mark.parametrize('edit', [two_points, no_segmentation, twice, without_annotation, no_size])
def test_unreferenced_entries_are_not_checked(write_refcoco, edit):
    """A fault is reported for the split that has it."""
    assert len(RefCOCODataset(write_refcoco(edit), split='val')) == 2


def test_other_annotations_and_images_are_allowed(write_refcoco):

    def add(content, refs):
        content['annotations'] += [
            dict(id=98),
            dict(id=99, image_id=1, segmentation=None),
            dict(image_id=1),
            {},
            dict(id=[7]),
            None,
            7,
            [dict(id=98)],
            'x',
        ]
        content['images'] += [
            None,
            7,
            dict(id=98),
            dict(file_name='a.jpg'),
            dict(id=99, file_name=None, height=0, width='x'),
        ]

    assert len(RefCOCODataset(write_refcoco(add))) == 3


def test_damaged_json_is_named(write_refcoco):
    root = write_refcoco()
    path = os.path.join(root, 'refcoco', 'instances.json')
    Path(path).write_text('{"images": [')
    with pytest.raises(ValueError, match='not in the format of COCO instances'):
        RefCOCODataset(root)
