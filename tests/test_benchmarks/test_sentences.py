"""benchmarks/sentences.py: what several sentences of one image cost."""

import json
from pathlib import Path

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
