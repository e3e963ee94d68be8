"""benchmarks/gpu_report.py on the CPU and the smallest encoder; times are not checked."""

import runpy
import time
import warnings

import pytest
from processes import ROOT, call_tool
from torch import nn

TOOL = ROOT / 'benchmarks' / 'gpu_report.py'
SMALL = ('--device', 'cpu', '--archs', 'tiny', '--sizes', 32, '--batch', 2, '--workers', 1)


def tables(page: str) -> dict[str, list[list[str]]]:
    """The rows of each table, its head first."""
    found = {}
    for part in page.split('\n## ')[1:]:
        title, _, *lines = part.splitlines()
        rows = [line.strip('| ').split(' | ') for line in lines if line.startswith('| ')]
        found[title] = [rows[0], *rows[2:]]
    return found


def test_every_table_is_made(tmp_path, output_of, monkeypatch):
    """Blocks are compiled without code, for which a C++ compiler takes a minute."""
    compile_block = nn.Module.compile
    monkeypatch.setattr(nn.Module, 'compile', lambda self: compile_block(self, backend='eager'))
    page = tmp_path / 'page.md'
    output_of(TOOL, *SMALL, '--out', page)
    found = tables(page.read_text())
    assert list(found) == [
        'Parity',
        'Kernel of attention',
        'Speed',
        'Memory of a training step, bfloat16 (GiB)',
        'Compiled blocks',
        'Loading',
    ]
    for _, arithmetic, _, features, gradients in found['Parity'][1:]:
        bound = 1e-5 if arithmetic == 'float32' else 0.3
        assert 0 < float(features) < bound and 0 < float(gradients) < bound
    # 64 channels and 2 · 2 or 2 · 14 of place, up to a multiple of 8
    assert [row[2] for row in found['Kernel of attention'][1:]] == ['72', '96']
    assert {row[1] for row in found['Speed'][1:]} >= {'ldit, ours', 'ldit, textbook', 'sam, segment_anything'}
    assert all(float(row[3]) > 0 for row in found['Speed'][1:] if row[1] == 'ldit, ours')
    assert all(float(number) > 0 for number in found['Compiled blocks'][1][1:4])
    assert float(found['Loading'][1][1]) > 0


def test_rows_without_time_are_marked(output_of):
    page = output_of(TOOL, *SMALL, '--minutes', 0, '--parts', 'speed', 'loading')
    assert tables(page)['Speed'][1][:2] == ['ViT-tiny 32², ldit', 'no time was left']


def test_a_row_ends_when_the_time_is_over(output_of, monkeypatch):
    begun = []
    monkeypatch.setattr('gpu_tables.measure_case', lambda *_: begun.append(True) or time.sleep(100))
    page = output_of(TOOL, *SMALL, '--minutes', 0.02, '--parts', 'speed')
    assert tables(page)['Speed'][1][:2] == ['ViT-tiny 32², ldit', 'no time was left']
    assert begun


def test_a_failed_row_is_marked_and_the_others_are_made(tmp_path, monkeypatch, output_of, capsys):
    """For example, there may be no compiler; here the compiler fails."""
    monkeypatch.setattr('gpu_tables.measure_case', lambda *_: 1 / 0)
    output_of(TOOL, *SMALL, '--parts', 'speed', 'kernels', '--out', tmp_path / 'page.md')
    found = tables((tmp_path / 'page.md').read_text())
    assert found['Speed'][1][:2] == ['ViT-tiny 32², ldit', 'failed: ZeroDivisionError: division by zero']
    assert len(found['Kernel of attention']) == 3
    monkeypatch.setenv('DIT_SAM_DEBUG', '1')
    assert call_tool(TOOL, *SMALL, '--parts', 'speed') == 0
    page, errors = capsys.readouterr()
    assert tables(page)['Speed'] == found['Speed'] and 'ZeroDivisionError: division by zero' in errors


def test_what_was_measured_before_a_failure_is_kept(monkeypatch, output_of):
    """A reference of another release fails, and then the memory of the second batch."""
    monkeypatch.setattr('transformers.SamVisionModel.forward', lambda *_, **__: 1 / 0)
    monkeypatch.setattr('gpu_tables.MEASURES', ('forward',))
    totals = runpy.run_path(str(ROOT / 'tools' / 'analysis_tools' / 'estimate_memory.py'))['estimate']
    monkeypatch.setattr('gpu_tables.estimate', lambda *args: totals(args[0], args[1], [1], True))
    found = tables(output_of(TOOL, *SMALL, '--parts', 'speed', 'memory'))
    rows = {row[1]: row[2:] for row in found['Speed'][1:]}
    assert float(rows['ldit, ours'][1]) > 0 and float(rows['sam, ours'][1]) > 0
    assert rows['sam, transformers'][1] == 'ZeroDivisionError: division by zero'
    memory = found['Memory of a training step, bfloat16 (GiB)'][1:]
    assert [row[1] for row in memory] == ['1', 'failed: KeyError: 2']


def test_only_waits_of_operations_are_counted():
    messages = [
        'called a synchronizing CUDA operation (Triggered internally at …)',
        'Synchronization debug mode is a prototype feature and does not yet detect all operations',
    ]
    with pytest.warns() as said:
        for message in messages:
            warnings.warn(message, stacklevel=1)
    assert runpy.run_path(str(ROOT / 'benchmarks' / 'gpu_tables.py'))['count_waits'](list(said)) == 1


def test_a_missing_gpu_is_a_one_line_error(error_of):
    assert '--device cuda:9 does not exist' in error_of(TOOL, '--device', 'cuda:9')
