"""Intervals and p-values: what must hold for any masks, and cases that can be counted."""

import numpy as np
import pytest

from dit_sam.scoring import RULES, Sheet, differences, intervals

RULE = RULES['original']


def sheet_of(intersections: list[int], images: list[int], truth: int = 100) -> Sheet:
    """Sentences with that many right pixels of a truth, and no wrong ones."""
    number = len(intersections)
    counts = np.array([[shared, shared, truth] for shared in intersections], dtype=np.int64)
    return Sheet(
        counts=dict(original=counts),
        boundary=np.array([[shared, truth] for shared in intersections]),
        no_target=np.zeros(number, bool),
        images=np.array(images),
        sizes=np.full(number, 1000),
        confidence=np.full(number, np.nan),
    )


def everything(sheet: Sheet) -> np.ndarray:
    return np.arange(len(sheet))


def test_an_interval_holds_its_value_and_narrows_with_more_pictures():
    values, widths = np.random.default_rng(0).integers(0, 101, 60).tolist(), []
    for times in (1, 100):
        sheet = sheet_of(values * times, np.repeat(range(20 * times), 3).tolist())
        found = intervals(sheet, RULE, everything(sheet))
        assert found['mIoU'].value == pytest.approx(RULE.scores(sheet.areas(RULE))['mIoU'])
        assert found['oIoU'].value == pytest.approx(RULE.scores(sheet.areas(RULE))['oIoU'])
        assert all(one.low <= one.value <= one.high for one in found.values())
        widths.append(found['mIoU'].high - found['mIoU'].low)
    # Ten times narrower with a hundred times as many.
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.15)


def test_pictures_are_drawn_and_not_sentences():
    """Thirty equal sentences of each of two pictures, IoU 0 and 1, say as much as one of each: 0, 50 or 100."""
    many = sheet_of([0] * 30 + [100] * 30, [0] * 30 + [1] * 30)
    one = sheet_of([0, 100], [0, 1])
    for sheet in (many, one):
        found = intervals(sheet, RULE, everything(sheet))['mIoU']
        assert (found.low, found.value, found.high) == (0, 50, 100)
    alone = intervals(many, RULE, np.arange(30))['mIoU']
    assert np.isnan([alone.low, alone.high]).all() and str(alone) == '0.00 [-]' and alone.as_json()['low'] is None


def test_the_spread_is_that_of_the_mean():
    """The interval of a mean of n independent values is about 1.96 standard deviations / sqrt(n) on both sides."""
    values = np.random.default_rng(1).integers(0, 101, 500)
    found = intervals(sheet_of(values.tolist(), list(range(500))), RULE, np.arange(500), rounds=4000)['mIoU']
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / 500**0.5, rel=0.05)


def test_a_model_does_not_differ_from_itself():
    sheet = sheet_of([10, 50, 90], [0, 1, 2])
    for found in differences(sheet, sheet, RULE, everything(sheet)).values():
        assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_exchanging_the_models_changes_only_the_sign():
    rng = np.random.default_rng(2)
    first, second = (sheet_of(rng.integers(0, 101, 60).tolist(), list(range(60))) for _ in range(2))
    ahead = differences(first, second, RULE, everything(first))['mIoU']
    behind = differences(second, first, RULE, everything(first))['mIoU']
    assert (behind.value, behind.low, behind.high) == pytest.approx((-ahead.value, -ahead.high, -ahead.low))
    assert behind.p_value == pytest.approx(ahead.p_value, abs=0.05)


def test_the_p_value_by_counting():
    """Five pictures, each 10 points better. Of 32 ways to swap them, 2 give a difference as large: p = 1/16."""
    first, second = sheet_of([10, 20, 30, 40, 50], range(5)), sheet_of([20, 30, 40, 50, 60], range(5))
    found = differences(first, second, RULE, everything(first), rounds=8000)['mIoU']
    assert found.value == pytest.approx(10) and (found.low, found.high) == (pytest.approx(10), pytest.approx(10))
    assert found.p_value == pytest.approx(1 / 16, rel=0.15)
    # No swap of forty pictures is as large, and the observed one counts as a round of its own.
    first, second = sheet_of([10] * 40, range(40)), sheet_of([20] * 40, range(40))
    found = differences(first, second, RULE, everything(first), rounds=99)['mIoU']
    assert found.p_value == 0.01


def test_p_values_of_equal_models_are_even():
    """Two models without a difference: a p-value below 0.2 in about a fifth of the cases."""
    rng, found = np.random.default_rng(3), []
    for seed in range(150):
        first, second = (sheet_of(rng.integers(0, 101, 40).tolist(), list(range(40))) for _ in range(2))
        found.append(differences(first, second, RULE, everything(first), rounds=200, seed=seed)['mIoU'].p_value)
    assert 0.1 < np.mean(np.array(found) < 0.2) < 0.3


def test_the_same_seed_gives_the_same_interval():
    sheet = sheet_of(np.random.default_rng(4).integers(0, 101, 50).tolist(), list(range(50)))
    first, again, other = (intervals(sheet, RULE, everything(sheet), seed=seed)['mIoU'] for seed in (1, 1, 2))
    assert first == again != other
