"""Every form of bad input, a few times; `fuzz.py` tries thousands, with the results in docs/robustness.md."""

import pytest
from forms_sentences import probabilities
from fuzzing import FORMS, load_forms, try_once

load_forms()
# The others take too long: pictures of 200 megapixels.
QUICK = [form for form in FORMS if form.share > 0.01]


@pytest.mark.parametrize('form', QUICK, ids=lambda form: f'{form.kind}: {form.text}')
def test_the_outcome_is_the_stated_one(form, tmp_path):
    for seed in range(max(1, round(5 * form.share))):
        assert try_once(form, seed, tmp_path) in form.outcomes


def test_the_tiny_model_distinguishes_sentences():
    """Otherwise, equal masks of two sentences would prove nothing."""
    first, second = probabilities('the red circle'), probabilities('a small star')
    assert abs(first - second).max() > 1e-3
