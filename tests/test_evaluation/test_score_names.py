"""Names of scores and groups: complete, distinct, and known before anything is scored; and what makes a group."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import MMLogger
from scored_items import item, score

from dit_sam.evaluation import ReferringIoU


def test_by_kind():
    items = [item(1, 1, kind='place'), item(1, kind='place'), item(1, 3, kind='attribute'), item(0, 1)]
    scores = score(items, group_by='kind')
    assert scores['mIoU/place'] == (1 / 2 + 1) / 2 * 100
    assert scores['mIoU/attribute'] == 1 / 4 * 100
    assert scores['mIoU'] == (1 / 2 + 1 + 1 / 4 + 0) / 4 * 100
    assert {key for key in scores if '/' in key} == {'mIoU/place', 'mIoU/attribute'}
    assert not any('/' in key for key in score(items))
    assert score(items, group_by='kind', generalized=True)['gIoU/attribute'] == 1 / 4 * 100


def test_references_of_two_pictures_are_two_although_they_have_one_id():
    """IoU 1/2 and 1; together they would have (1 + 1) / (2 + 1)."""
    items = [item(1, 1, ref_id=1, img_path='a.jpg'), item(1, ref_id=1, img_path='b.jpg')]
    assert score(items, by_reference=True)['rIoU'] == 75


def test_without_any_pixel_one_missed_target_makes_the_overall_iou_zero():
    """Nothing for nothing, and nothing for an annotated target without a pixel."""
    assert score([item(0)])['oIoU'] == 100
    assert score([item(0), item(0, no_target=False)])['oIoU'] == 0


def test_a_key_that_no_item_has_is_named(monkeypatch):
    warnings = []
    monkeypatch.setattr('dit_sam.evaluation.referring_iou.log_warning', warnings.append)
    assert not any('/' in name for name in score([item(1, 1)], group_by='kinds'))
    assert warnings[0].startswith("ReferringIoU: group_by='kinds' is in the metadata of no item")


# Words that could be taken for a score, a row of the table, a path, or a name already written as in a URL.
WORDS = st.sampled_from(['all', 'mIoU', 'oIoU', 'P@0.5', 'Number', 'a', 'a/b', 'a%2Fb', 'a_b', 'mIoU/a', '', '\n', '%'])


@settings(max_examples=30, deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=5), prefix=st.sampled_from([None, 'val', 'all', 'a/b']))
def test_no_kind_collides_with_another_score(words, prefix):
    """Every third item is right, and the total is that of all of them."""
    items = [item(1, 0 if number % 3 else 1, kind=word) for number, word in enumerate(words)]
    scores, plain = (score(items, prefix=prefix, **more) for more in (dict(group_by='kind'), {}))
    assert {name: scores[name] for name in plain} == plain
    assert len(scores) == len(plain) + len(set(words))
    # Also if slashes are replaced, as in the names of checkpoints.
    assert len({name.replace('/', '_') for name in scores}) == len(scores)


@pytest.mark.parametrize(
    'word, name',
    [
        ('all', 'mIoU/all'),
        ('left side', 'mIoU/left side'),
        ('左', 'mIoU/左'),
        ('left/right', 'mIoU/left%2Fright'),
        ('50 %', 'mIoU/50 %25'),
        ('two\nlines', 'mIoU/two%0Alines'),
        ((1, 2), 'mIoU/(1, 2)'),
        ('a\\b', 'mIoU/a%5Cb'),
        ('\ud800', 'mIoU/%ED%A0%80'),
        ('X', 'mIoU/X'),
    ],
)
def test_names_of_groups(word, name):
    assert score([item(1, 1, kind=word)], group_by='kind')[name] == 50


class ToyItems(list):
    """A data set of items that are known."""

    def get_data_info(self, index: int) -> dict:
        return self[index]


@pytest.mark.parametrize(
    'options',
    [{}, dict(generalized=True), dict(prefix='val'), dict(group_by='kind'), dict(group_by='kind', prefix='val')],
)
def test_names_of_scores_are_known_in_advance(options):
    metric = ReferringIoU(**options)
    scores = score([item(1, kind='a'), item(0, kind='b')], **options)
    assert set(metric.score_names()) == {name for name in scores if name.count('/') == ('prefix' in options)}
    groups = ToyItems([dict(kind='a'), dict(kind='b'), {}])
    assert set(metric.group_names(groups)) == {name for name in scores if name.count('/') > ('prefix' in options)}
    # Of two joined sets one passes the key on.
    steps = [SimpleNamespace(transforms=[SimpleNamespace(meta_keys=keys)]) for keys in (['kind'], [])]
    groups.datasets = [SimpleNamespace(pipeline=step) for step in steps]
    assert bool(metric.group_names(groups)) == ('group_by' in options)


@pytest.mark.parametrize('prefix, name', [('a', 'a/mIoU'), ('a/', 'a/mIoU'), ('a/b//', 'a/b/mIoU'), ('/', 'mIoU')])
def test_one_slash_follows_a_prefix(prefix, name):
    metric = ReferringIoU(prefix=prefix)
    assert name in metric.score_names() and name in score([item(1)], prefix=prefix)


def test_a_kind_called_all_is_a_row_below_the_total(capsys):
    MMLogger.get_instance('rows', log_level='INFO')
    score([item(1, 1, kind='all'), item(0, 1, kind='b')], group_by='kind')
    table = [line for line in capsys.readouterr().out.splitlines() if line[:1] in ('+', '|')]
    assert ''.join(line[0] for line in table) == '+|+|+||+' and table[1].split()[1] == 'kind'
    rows = [line.split('|')[1:4] for line in table if line.startswith('|')]
    assert [[cell.strip() for cell in row] for row in rows[1:]] == [
        ['all', '2', '33.33'],
        ['all', '1', '50.00'],
        ['b', '1', '0.00'],
    ]
