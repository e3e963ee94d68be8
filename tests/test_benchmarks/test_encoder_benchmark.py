"""benchmarks/encoder.py and ranks.py on the smallest encoder; times are not checked."""

import json
import runpy

import pytest
import torch
from processes import ROOT, call_tool, run_tool

from dit_sam.compat import has_bfloat16

ENCODER, RANKS = ROOT / 'benchmarks' / 'encoder.py', ROOT / 'benchmarks' / 'ranks.py'


def test_all_documented_figures_are_measured(tmp_path, output_of):
    """32 × 32 pixels: 4 visual tokens, of which global attention has 4 queries with 4 + 3 keys.

    bfloat16 is measured if the CPU has arithmetic for it.
    """
    bfloat16, target = has_bfloat16('cpu'), tmp_path / 'figures.json'
    options = '--arch tiny --size 32 --tokens 3 --batch 2 --rounds 1 --cases ldit edit-windowed sam'.split()
    printed = output_of(ENCODER, *options, '--json', target)
    result = json.loads(target.read_text())
    assert set(result['ratios']) == {
        'forward_vs_textbook',
        'train_step_vs_textbook',
        'memory_vs_textbook',
        'sam_forward_vs_segment_anything',
        'sam_forward_vs_transformers',
        *['bf16_vs_fp32'] * bfloat16,
    }
    assert all(ratio > 0 for ratio in result['ratios'].values())
    rows = {(row['case'], row['encoder'], row['dtype']): row for row in result['encoders']}
    assert {key[1] for key in rows if key[0] == 'sam'} == {'ours', 'segment_anything', 'transformers'}
    assert {key[1:] for key in rows if key[0] == 'ldit'} == {
        ('ours', 'float32'),
        *[('ours', 'bfloat16')] * bfloat16,
        ('textbook', 'float32'),
    }
    for key, row in rows.items():
        assert row['deviation'] <= (1e-5 if key[2] == 'float32' else 3e-2)
        assert min(row[name] for name in ('forward_s', 'train_step_s', 'memory_mb', 'forward_of_peak')) > 0
    linear = 4 * 12 * 192 * 192 + 3 * 4 * 192 * 192  # qkv, proj and MLP; qkv of the text and P_i
    attention = 4 * 192 * (2 * (4 + 3) + 2 + 2)  # logits, values, rows and columns
    ends = 3 * 768 * 192 + 4 * 768 * 192 + 4 * 192 * 256 + 4 * 9 * 256 * 256  # text projection, patches, neck
    assert rows['ldit', 'ours', 'float32']['needed_gflops'] == pytest.approx(
        2 * 2 * (6 * (linear + attention) + ends) / 1e9
    )
    assert 'edit-windowed' in printed


@pytest.mark.parametrize(
    'arguments,message',
    [
        (['--device', 'cuda:9'], '--device cuda:9 does not exist; this machine has '),
        (['--device', 'cpu:x'], '--device cpu:x does not exist; this machine has '),
        (['--json', '.'], '. is a folder: name a file in it'),
        (['--size', 100], '--size 100 is not a multiple of 16, the side of a patch'),
    ],
)
def test_bad_input_is_one_line(arguments, message, error_of):
    assert message in error_of(ENCODER, '--arch', 'tiny', *arguments)


def test_products_of_every_kind_of_attention_are_counted():
    """Two products of 2 · 5 · 7 · 8 FLOPs in each of 3 heads, fused or in chunks, and with them added to a tensor."""
    flops = runpy.run_path(str(ROOT / 'benchmarks' / 'measures.py'))['flops']
    q, k = (3, 5, 8), (3, 7, 8)

    def fused() -> None:
        torch.nn.functional.scaled_dot_product_attention(torch.zeros(1, *q), torch.zeros(1, *k), torch.zeros(1, *k))

    def in_place() -> None:
        torch.zeros(3, 5, 7).baddbmm_(torch.zeros(q), torch.zeros(k).mT) @ torch.zeros(k)

    assert flops(fused) == flops(in_place) == 3 * 2 * (2 * 5 * 7 * 8)


def test_bfloat16_without_arithmetic_for_it_is_refused():
    done = run_tool(ENCODER, '--dtype', 'bfloat16', ONEDNN_MAX_CPU_ISA='AVX2')
    assert done.returncode == 1 and done.output.startswith('error: --dtype bfloat16: this CPU has no bfloat16 arith')


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([], 'choose what to measure by --axis, or name a file of figures by --json'),
        (['--json', 'none.json'], 'choose what to measure by --axis'),
        (['--json', 'text'], 'text holds no figures of this tool: name another --json'),
        (['--json', 'other'], 'other holds no figures of this tool'),
        (['--axis', 'tokens', '--json', 'new/a.json', '--plot', 'text/a.png'], 'text cannot be written to: '),
    ],
)
def test_files_with_other_content_are_refused_and_kept(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'text').write_text('text')
    (tmp_path / 'other').write_text('{"size": 1}')
    assert call_tool(RANKS, '--arch', 'tiny', '--size', 32, *arguments) in (1, 2)
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / 'text').read_text() == 'text' and (tmp_path / 'other').read_text() == '{"size": 1}'


def test_growth_is_measured_stored_and_plotted(tmp_path, output_of):
    kept, picture = tmp_path / 'scaling.json', tmp_path / 'scaling.png'
    output_of(RANKS, '--arch', 'tiny', '--size', 32, '--axis', 'tokens', '--rounds', 1, '--json', kept)
    figures = json.loads(kept.read_text())
    assert set(figures['tokens']['cases']) == {'ldit', 'edit'}
    assert list(figures['tokens']['cases']['ldit']) == ['5', '10', '20', '40', '80']
    printed = output_of(RANKS, '--json', kept, '--plot', picture)
    assert '| tokens of a sentence |' in ' '.join(printed.split())
    assert picture.read_bytes().startswith(b'\x89PNG')
