"""The random numbers of an item depend on its visit, not on the process or the loop."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, InfiniteSampler, RepeatDataset
from mmengine.runner import Runner
from processes import run_ranks
from torch.utils.data import DataLoader, IterableDataset, Subset

from dit_sam.datasets import WeightedConcatSampler
from dit_sam.engine.launch import load_config
from dit_sam.mmengine_extras.item_seeds import sampler_of, seed_items, seed_sampler, stop_seeding_items

TOY = Path(__file__).parents[1] / 'toy_config.py'


class Draws(BaseDataset):
    """Four items, each with its index and a draw of all three random generators."""

    def load_data_list(self):
        return [{}] * 4

    def prepare_data(self, index):
        return index, random.random(), np.random.random(), torch.rand(()).item()


class Pairs:
    """A batch sampler without a sampler."""

    def __iter__(self):
        return iter([[0, 1], [2, 3], [0, 1], [2, 3]])

    def __len__(self):
        return 4


def repeated() -> dict:
    return dict(dataset=RepeatDataset(Draws(), times=2), batch_size=2)


def weighted() -> dict:
    both = ConcatDataset([Draws(), Draws()])
    return dict(dataset=both, batch_size=3, sampler=WeightedConcatSampler(both, [3, 1], epoch_size=9, seed=0))


def infinite() -> dict:
    return dict(dataset=Draws(), batch_size=4, sampler=InfiniteSampler(range(4), seed=0))


def paired() -> dict:
    return dict(dataset=Draws(), batch_sampler=Pairs())


def passes(setting: dict, start: int = 0, **workers: object) -> list[list[tuple]]:
    """All that is drawn in two passes over four batches at most."""
    loader = DataLoader(**setting, collate_fn=list, **workers)
    seed_items(loader, seed=5).next_pass = start
    return [[item for _, batch in zip(range(4), loader) for item in batch] for _ in range(2)]


@pytest.mark.parametrize('build', [repeated, weighted, infinite, paired])
def test_every_visit_of_an_item_draws_new_numbers(build):
    first, second = passes(build())
    for place in (1, 2, 3):
        numbers = [item[place] for item in first + second]
        assert len(set(numbers)) == len(numbers)
    # Items come more than once in a pass.
    assert len({item[0] for item in first}) < len(first)


@pytest.mark.parametrize(
    'workers',
    [
        # As with spawn, they are sent the data set.
        dict(num_workers=1, multiprocessing_context='forkserver'),
        dict(num_workers=2, persistent_workers=True),
    ],
    ids=['sent', 'persistent'],
)
def test_drawn_numbers_depend_only_on_the_position(workers):
    """Not on the workers, nor on numbers drawn before."""
    expected = passes(repeated())
    torch.manual_seed(99)
    assert passes(repeated(), **workers) == expected
    assert passes(repeated(), start=1)[0] == expected[1]


def test_loaders_that_cannot_be_seeded_are_an_error():
    with pytest.raises(TypeError, match='^batch_size=None$'):
        seed_items(DataLoader(Draws(), batch_size=None), seed=5)
    with pytest.raises(TypeError, match='^a data set of type list takes no attributes$'):
        seed_items(DataLoader([1, 2]), seed=5)
    with pytest.raises(TypeError, match=r'^a data set of type Stream \(IterableDataset\) has no indices$'):
        seed_items(DataLoader(Stream(), batch_size=2), seed=5)


class Stream(IterableDataset):
    """Items without indices."""

    def __iter__(self):
        return iter(range(4))


class MakesBatches(Draws):
    """A data set that makes its own batches, of marked items."""

    def __getitems__(self, indices):
        return [('own', *self[index][1:]) for index in indices]


@pytest.mark.parametrize('kind', [Draws, MakesBatches])
def test_other_loaders_of_the_data_set_are_not_affected(kind):
    """During the training, through a subset, and after the training; the data set's own `__getitems__` is kept."""
    dataset = kind()
    names = ['own'] * 4 if kind is MakesBatches else [0, 1, 2, 3]
    loader = DataLoader(dataset, batch_size=2, collate_fn=list)
    seed_items(loader, seed=5)
    expected = [item for batch in loader for item in batch]
    assert [item[0] for item in expected] == names
    for other in (dataset, Subset(dataset, range(4))):
        items = [item for batch in DataLoader(other, batch_size=2, collate_fn=list) for item in batch]
        assert [item[0] for item in items] == names and items != expected
    stop_seeding_items(loader)
    items = [item for batch in loader for item in batch]
    assert [item[0] for item in items] == names and items != expected
    seed_items(loader, seed=5)
    assert [item for batch in loader for item in batch] == expected


def test_a_second_training_with_the_same_runner_works(tmp_path):
    """In a loop without epochs, whose iterator the first one has used; after each, the data set is unchanged."""
    runner = Runner.from_cfg(
        load_config(
            str(TOY),
            work_dir=str(tmp_path),
            cfg_options={
                'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=3, val_interval=3),
                'default_hooks.checkpoint.by_epoch': False,
            },
        )
    )
    for steps in (3, 5):
        runner.train_loop._max_iters = steps
        runner.train()
        assert runner.iter == steps
        assert '__getitems__' not in vars(runner.train_dataloader.dataset)
        assert sorted(int(item) for batch in runner.train_dataloader for item in batch['number']) == list(range(8))


@pytest.mark.parametrize('own, seed', [(None, 77), (3, 3)])
def test_the_sampler_of_a_batch_sampler_gets_the_seed_unless_it_has_its_own(tmp_path, own, seed):
    """torch puts a sampler without a seed in its place in the loader."""
    cfg = load_config(str(TOY), work_dir=str(tmp_path))
    cfg.train_dataloader.update(batch_sampler=dict(type='torch.utils.data.BatchSampler', drop_last=False))
    cfg.train_dataloader.sampler.seed = own
    runner = Runner.from_cfg(cfg)
    seed_sampler(runner, 77)
    assert sampler_of(runner.train_dataloader).seed == seed
    assert runner.train_dataloader.sampler is not sampler_of(runner.train_dataloader)


def visits(output: str) -> list[list[int]]:
    """The items of each step, as `VisitHook` prints them."""
    return [list(map(int, items.split(', '))) for items in re.findall(r'^visits \d+: (.*)$', output, re.MULTILINE)]


def test_ranks_with_different_seeds_get_disjoint_items(tmp_path):
    """Each of the eight items is visited once an epoch, and the two epochs differ in their order."""
    (tmp_path / 'toy.py').write_text(f"""_base_ = '{TOY}'
custom_hooks = [dict(type='VisitHook')]
train_cfg = dict(_delete_=True, type='ResumableTrainLoop', max_epochs=2)
randomness = dict(diff_rank_seed=True)
""")
    done = run_ranks(2, 'train.py', tmp_path / 'toy.py', '--work-dir', tmp_path)
    assert [each.returncode for each in done] == [0, 0], done[0].output[-3000:]
    epochs = [np.hstack([visits(each.output)[first : first + 2] for each in done]) for first in (0, 2)]
    assert [sorted(epoch.flatten()) for epoch in epochs] == [list(range(8))] * 2
    assert not np.array_equal(*epochs)
