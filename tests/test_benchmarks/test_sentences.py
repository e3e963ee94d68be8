"""benchmarks/sentences.py: what several sentences of one image cost."""

import json
from pathlib import Path

import pytest

TOOL = str(Path(__file__).parents[2] / 'benchmarks' / 'sentences.py')


def test_the_work_shrinks_with_a_later_start(tmp_path, output_of):
    """One sentence costs the same work everywhere, apart from the text; several cost less the later the text enters."""
    options = ['--arch', 'tiny', '--size', '96', '--sentences', '1', '4', '--rounds', '1']
    printed = output_of(TOOL, *options, '--json', tmp_path / 'figures.json')
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert [line.split(' | ')[0] for line in printed.splitlines()[-5:]] == [f'| {name}' for name in figures]
    work = [found['4']['gflops'] for found in figures.values()]
    assert work == sorted(work, reverse=True) and work[-1] < 0.6 * work[0]
    alone = [found['1']['gflops'] for found in figures.values()]
    assert alone[-1] > 0.75 * alone[0]


def test_steps_with_more_sentences_of_an_image_need_less_memory(tmp_path, output_of):
    """Only where the text enters late; from block 0 nothing but the patches is shared."""
    options = ['--train', '--arch', 'tiny', '--size', '96', '--batch', '4', '--rounds', '1']
    output_of(TOOL, *options, '--sentences', '1', '--patch-size', '16', '--json', tmp_path / 'coarse.json')
    printed = output_of(TOOL, *options, '--sentences', '1', '4', '--json', tmp_path / 'figures.json')
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert [line.split(' | ')[0] for line in printed.splitlines()[-3:]] == [f'| {name}' for name in figures]
    assert all(each['seconds'] > 0 for found in figures.values() for each in found.values())
    *steps, loading = figures.values()
    saved = [found['4']['memory_mb'] / found['1']['memory_mb'] for found in steps]
    assert saved[0] == pytest.approx(1, abs=0.05) and saved[1] < 0.85
    assert loading.keys() == {'1', '4'}
    # 6 x 6 patches in place of 12 x 12.
    coarse = json.loads((tmp_path / 'coarse.json').read_text())
    for name in list(figures)[:-1]:
        assert coarse[name]['1']['memory_mb'] < 0.7 * figures[name]['1']['memory_mb']


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--device', 'cuda:9'], '--device cuda:9 does not exist'),
        (['--size', '100'], '--size 100 is not a multiple of 16'),
        (['--size', '96', '--patch-size', '20'], '--size 96 is not a multiple of --patch-size 20'),
        (['--evf', '--patch-size', '8'], '--patch-size does not go with --evf'),
        (['--amp'], '--amp is an option of --train'),
        (['--train', '--batch', '6'], '--batch 6 is not a multiple of 4 sentences an image'),
        (['--json', '.'], '. is a folder: name a file in it'),
    ],
)
def test_bad_input_is_one_line(arguments, message, error_of):
    assert message in error_of(TOOL, '--arch', 'tiny', *arguments)
