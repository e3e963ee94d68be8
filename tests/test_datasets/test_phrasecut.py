"""PhraseCut: a small set in the layout of its release, drawn by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from further_sets import HEIGHT, WIDTH, box, columns, corners, items, write_image

from dit_sam.datasets import PhraseCutDataset
from dit_sam.datasets.held_out import evaluation_images
from dit_sam.errors import InputError


def task(number: int, image_id: int, phrase: str, polygons: list, kind: str = 'attribute', **more) -> dict:
    structure = dict(name='cup', attributes=['red'], relation_ids=[], relation_descriptions=[], type=kind)
    return (
        dict(
            task_id=f'{image_id}__{number}',
            image_id=image_id,
            ann_ids=[number],
            instance_boxes=[[0, 0, 1, 1]] * len(polygons),
            Polygons=polygons,
            phrase=phrase,
            phrase_structure=structure,
        )
        | more
    )


@pytest.fixture
def write_phrases(tmp_path) -> Callable:
    """`write_phrases(edit)` writes PhraseCut after `edit(images, tasks)`: image 5 is COCO's 77, image 77 is not."""

    def write(edit: Callable = lambda images, tasks: None) -> str:
        images = [
            dict(image_id=5, coco_id=77, flickr_id=None, width=WIDTH, height=HEIGHT, url='', split='test'),
            dict(image_id=77, coco_id=None, flickr_id=1, width=WIDTH, height=HEIGHT, url='', split='test'),
        ]
        tasks = [
            # Two instances, one in two pieces; a polygon of one point does not count, fractions are cut off.
            task(
                1,
                5,
                'red cups',
                [[corners(2, 2, 8, 6), corners(20.9, 2.2, 25, 6)], [corners(40, 10, 50, 20), [[0, 0]]]],
            ),
            task(2, 77, 'cup', [[corners(0, 0, 3, 3)]], 'name', ann_ids=[2, 3]),
        ]
        edit(images, tasks)
        (tmp_path / 'image_data_split.json').write_text(json.dumps(images))
        (tmp_path / 'refer_test.json').write_text(json.dumps(tasks))
        for image in images:
            write_image(tmp_path / 'images' / f'{image["image_id"]}.jpg')
        return str(tmp_path)

    return write


def test_phrasecut(write_phrases):
    found = items(PhraseCutDataset(write_phrases(), test_mode=True))
    assert columns(found, 'ref_id', 'sent_id', 'ann_id', 'category_id', 'img_id', 'kind', 'text') == [
        ('5__1', '5__1', (1,), 'cup', 5, 'attribute', 'red cups'),
        ('77__2', '77__2', (2, 3), 'cup', 77, 'name', 'cup'),
    ]
    assert (found[0]['mask'] == box(2, 2, 8, 6) + box(20, 2, 25, 6) + box(40, 10, 50, 20)).all()
    assert (found[1]['mask'] == box(0, 0, 3, 3)).all() and Path(found[0]['img_path']).is_file()


def test_images_of_phrasecut_are_held_out_by_their_number_in_coco(write_phrases, write_refcoco, tmp_path):
    """Image 5 is COCO's 77, which is in a val split. Image 77 of Visual Genome is another picture."""
    root = write_phrases()

    def rename(content, refs):
        for record in (*content['images'], *content['annotations'], *refs):
            for key in ('id', 'image_id'):
                record[key] = 77 if record.get(key) == 2 else record.get(key)

    write_refcoco(rename)
    kept = PhraseCutDataset(root, filter_cfg=dict(evaluation_images=['refcoco/refs(unc).p']))
    assert columns(items(kept), 'img_id') == [(77,)]
    kept.table.save(tmp_path / 'phrases.safetensors')
    assert evaluation_images([str(tmp_path / 'phrases.safetensors')]) == {77}
    # If no image is COCO's, none is left out.
    others = write_phrases(lambda images, tasks: [image.update(coco_id=None) for image in images])
    kept = PhraseCutDataset(others, filter_cfg=dict(evaluation_images=['refcoco/refs(unc).p']))
    assert columns(items(kept), 'img_id') == [(5,), (77,)]


@pytest.mark.parametrize(
    'edit, message',
    [
        (lambda images, tasks: images[1].pop('height'), r'image_data_split\.json: image 1 has no key "height"'),
        (
            lambda images, tasks: images[1].update(width=0),
            r'task 77__2 is of image 77, whose height and width are \(40, 0\)',
        ),
        (
            lambda images, tasks: images.pop(),
            r'task 77__2 is of image 77, which .*image_data_split\.json does not have',
        ),
        (lambda images, tasks: tasks[0].pop('Polygons'), r'refer_test\.json: task 0 has no key "Polygons"'),
        (
            lambda images, tasks: tasks[0].update(Polygons=[[[[1, 2], [3]]]]),
            r'task 5__1 has a polygon with the point \[3\]',
        ),
        (lambda images, tasks: tasks[0].update(Polygons=[5]), 'task 5__1 has an instance that is not a list'),
        (lambda images, tasks: tasks[0].update(phrase=' '), 'task 5__1, sentence 5__1 is blank'),
        (lambda images, tasks: tasks[0].update(ann_ids=[]), r'task 5__1 has the ann_ids \[\]: a list of numbers'),
    ],
)
def test_bad_phrasecut_is_named(write_phrases, edit, message):
    with pytest.raises(InputError, match=message):
        PhraseCutDataset(write_phrases(edit))
