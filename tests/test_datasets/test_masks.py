"""Masks as compressed run lengths, against pycocotools and masks drawn by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from dit_sam.datasets.masks import check_rle, encode_box, encode_mask, encode_segmentation, run_lengths, unite

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
MASKS = SIZES.flatmap(lambda size: arrays(np.uint8, size, elements=st.integers(0, 1)))


def decode(counts: bytes, height: int, width: int) -> np.ndarray:
    return coco_mask.decode(dict(size=[height, width], counts=counts))


@given(MASKS)
def test_run_lengths_match_the_mask(mask):
    """Column by column, outside first."""
    flat = mask.ravel(order='F')
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    expected = np.diff(np.concatenate([[0], changes, [flat.size]]))
    assert run_lengths(encode_mask(mask)).tolist() == expected.tolist()
    check_rle(encode_mask(mask), *mask.shape)


@given(MASKS)
def test_every_form_gives_the_same_mask(mask):
    height, width = mask.shape
    counts = encode_mask(mask)
    for rle in (
        dict(size=[height, width], counts=counts),
        dict(size=[height, width], counts=counts.decode()),
        dict(size=[height, width], counts=run_lengths(counts).tolist()),
    ):
        assert (decode(encode_segmentation(rle, height, width), height, width) == mask).all()
        assert (decode(encode_segmentation([rle, rle], height, width), height, width) == mask).all()


@given(st.binary(max_size=40))
def test_the_check_accepts_only_valid_bytes(data):
    """pycocotools decodes accepted bytes to a mask of zeros and ones; others could make it read out of bounds."""
    try:
        check_rle(data, 6, 7)
    except ValueError as error:
        assert str(error).startswith('has an RLE')
    else:
        assert set(np.unique(decode(data, 6, 7))) <= {0, 1}


RUNS = st.lists(st.sampled_from([0, 0, 1, 2, 5]), min_size=1, max_size=30)


@given(RUNS.filter(any), RUNS.filter(any))
def test_empty_runs_do_not_change_the_mask(first, second):
    """In a union with other empty runs than the first, pycocotools would write beyond its memory."""
    total = max(sum(first), sum(second))
    drawn = []
    for runs in (first, second):
        runs = [*runs, total - sum(runs)]
        mask = np.repeat(np.arange(len(runs)) % 2, runs)[None]
        drawn.append(mask)
        for counts in (runs, [*runs, 0, 0]):
            found = encode_segmentation(dict(size=[1, total], counts=counts), 1, total)
            assert run_lengths(found)[1:].all() and (decode(found, 1, total) == mask).all()
    both = [dict(size=[1, total], counts=[*runs, total - sum(runs)]) for runs in (first, second)]
    assert (decode(encode_segmentation(both, 1, total), 1, total) == (drawn[0] | drawn[1])).all()


def test_empty_runs_in_the_compressed_form_are_taken_out():
    """The union with itself, by pycocotools, has garbage in it."""
    rle = dict(size=[2, 2], counts='11001')
    found = encode_segmentation([rle, rle], 2, 2)
    assert run_lengths(rle['counts'].encode()).tolist() == [1, 1, 0, 1, 1] and run_lengths(found).tolist() == [1, 2, 1]


def test_box_covers_its_pixels():
    mask = decode(encode_box([5, 10, 20, 8], 40, 60), 40, 60)
    assert mask.sum() == 20 * 8 == mask[10:18, 5:25].sum()


def test_polygon_covers_its_pixels_and_may_leave_the_image_a_little():
    mask = decode(encode_segmentation([[-2, -1, 5, -1, 5, 4, -2, 4]], 40, 60), 40, 60)
    assert mask.sum() == 5 * 4 == mask[:4, :5].sum()


def test_union_of_no_masks_is_empty():
    assert decode(unite([], 4, 5), 4, 5).shape == (4, 5)
    assert not decode(unite([], 4, 5), 4, 5).any()


@pytest.mark.parametrize(
    'segmentation, message',
    [
        ([], 'no polygon and no RLE'),
        ([[1, 2, 3, 4]], 'a polygon of 4 numbers'),
        ([1, 2, 3, 4, 5, 6], 'a polygon of int'),
        ([[1, 2, 3, 4, 5, None]], 'not all coordinates are numbers'),
        ([[1, 2, 3, 4, 5, float('inf')]], 'not all coordinates are numbers'),
        ([[1, 2, 3, 4, 5, 10**400]], 'far outside'),
        (dict(size=[4, 5]), 'without the keys'),
        (dict(size=[5, 4], counts=[20]), 'of size [5, 4], but its image is [4, 5]'),
        (dict(size=[4, 5], counts=[21]), 'do not fill 4 x 5'),
        (dict(size=[4, 5], counts=[30, -10]), 'do not fill 4 x 5'),
        (dict(size=[4, 5], counts=[10, 10.5]), 'do not fill 4 x 5'),
        (dict(size=[4, 5], counts=None), '"counts" are NoneType'),
        (dict(size=[4, 5], counts=''), 'damaged'),
        (dict(size=[4, 5], counts='é'), 'damaged'),
        (dict(size=[4, 5], counts='oooo'), 'damaged'),
        (dict(size=[4, 5], counts='o' * 20 + '0'), 'a run that no image can have'),
        ([dict(size=[4, 5], counts=[20]), [1, 2, 3, 4, 5, 6]], 'mixes polygons and RLEs'),
    ],
)
def test_segmentations_that_break_pycocotools_are_named(segmentation, message):
    with pytest.raises(ValueError) as caught:
        encode_segmentation(segmentation, 4, 5)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    'box, message',
    [
        ([1, 2, 3], 'four numbers'),
        ([1, 2, 0, 3], 'without width or height'),
        ([1, 2, 'x', 3], 'four numbers'),
        ([1, 2, 3, 1e9], 'far outside'),
        ([1.5, 1, 10**400, 5], 'far outside'),
    ],
)
def test_bad_box_is_named(box, message):
    with pytest.raises(ValueError, match=message):
        encode_box(box, 4, 5)
