"""`dit-sam score` as a user runs it: table, JSON, page, pictures and exit status."""

import io
import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from processes import ROOT, call_tool
from scored_files import SIZE, rows, truth_line, write_lines

from dit_sam.datasets.shapes import write_shapes
from dit_sam.scoring import RULES
from dit_sam.scoring.page import _precision

TOOL = str(ROOT / 'tools' / 'analysis_tools' / 'score.py')


@pytest.fixture
def files(tmp_path) -> dict:
    """Three sentences about two pictures, with the answers of two models: IoU 1/2, 1 and 0; IoU 1, 1 and 1."""
    for name in ('a.png', 'b.png'):
        cv2.imwrite(str(tmp_path / name), np.full((*SIZE, 3), 128, np.uint8))
    truths = [truth_line('a.png', rows(0, 10), 'the man', 'man'), truth_line('b.png', rows(5, 9), 'a dog on the left')]
    first = [dict(sent_id=i, segmentation=mask) for i, mask in enumerate((rows(0, 5), rows(0, 10), None))]
    second = [dict(sent_id=i, segmentation=mask) for i, mask in enumerate((rows(0, 10), rows(0, 10), rows(5, 9)))]
    return dict(
        truth=write_lines(tmp_path / 'truth.jsonl', *truths),
        first=write_lines(tmp_path / 'first.jsonl', *first),
        second=write_lines(tmp_path / 'second.jsonl', *second),
        partly=write_lines(tmp_path / 'partly.jsonl', *first[:2]),
        folder=tmp_path,
    )


def test_the_command_line_offers_what_there_is():
    from dit_sam.scoring.answers import RESIZES as there
    from dit_sam_cli.score import RESIZES as offered

    assert tuple(there) == offered


def cells(output: str, row: str) -> list[str]:
    """The cells of the first row of that name, after it."""
    line = next(line for line in output.splitlines() if line.startswith('|') and line.split('|')[1].strip() == row)
    return [cell.strip() for cell in line.split('|')[2:-1]]


def test_tables_json_and_page(output_of, files):
    page, values = files['folder'] / 'page.html', files['folder'] / 'values.json'
    output = output_of(
        TOOL, files['first'], '--data', files['truth'], '--against', files['second'], '--json', values, '--html', page
    )
    # Intersections 5 + 10 + 0 rows of unions 10 + 10 + 4; IoU 1/2, 1 and 0.
    assert cells(output, 'original')[:7] == ['62.50', '50.00', '33.33', '33.33', '33.33', '33.33', '33.33']
    assert cells(output, 'LAVT')[2] == '66.67' and cells(output, 'CRIS')[0] == '-'
    assert cells(output, 'all')[2].startswith('+50.00 [') and cells(output, '4 to 5 words')[0] == '1'
    found = json.loads(values.read_text())
    assert found['protocols'].keys() == RULES.keys() and found['protocols']['original']['mIoU'] == pytest.approx(50)
    assert found['intervals']['mIoU']['value'] == pytest.approx(50) and found['problems'] == []
    assert found['differences']['all']['all']['mIoU']['value'] == pytest.approx(50)
    text = page.read_text()
    assert text.count('<svg') >= 4 and '62.50' in text and 'first.jsonl' in text
    # Nothing is loaded from elsewhere: addresses are names of XML.
    addresses = set(re.findall(r'(?:src|href)="(?!#)([^"]*)"', text))
    assert not addresses and '<script' not in text


def test_the_line_of_the_page_leaves_out_an_iou_of_exactly_x():
    """Above 0.5 is one of two."""
    (line,) = _precision(SimpleNamespace(ious=np.array([0.5, 1.0]))).axes[0].lines
    shares = dict(zip(line.get_xdata(), line.get_ydata()))
    assert (shares[0.0], shares[0.5], shares[1.0]) == (100, 50, 0)


@pytest.mark.parametrize('encoding', ['ascii:strict', 'utf-8:strict'])
def test_what_the_terminal_cannot_show_is_escaped(files, encoding, monkeypatch):
    folder = files['folder']
    kinds = [truth_line(f'{kind}.png', rows(0, 10), 'the man', kind=kind) for kind in ('größe 红', 'other')]
    truth = write_lines(folder / 'kinds.jsonl', *kinds)
    answers = write_lines(folder / 'one.jsonl', *(dict(sent_id=i, segmentation=rows(0, 10)) for i in (0, 1)))
    # As Python makes it by PYTHONIOENCODING.
    terminal = io.TextIOWrapper(io.BytesIO(), *encoding.split(':'))
    monkeypatch.setattr('sys.stdout', terminal)
    assert call_tool(TOOL, answers, '--data', truth, '--rounds', '9', '--json', folder / f'{encoding}.json') == 0
    terminal.flush()
    shown = 'größe 红'.encode() if 'utf' in encoding else rb'gr\xf6\xdfe \u7ea2'
    assert shown in terminal.buffer.getvalue()
    assert (folder / f'{encoding}.json').exists()


def test_files_are_written_although_the_reader_of_the_output_has_gone(files, monkeypatch):
    values = files['folder'] / 'values.json'

    def closed(*_):
        raise BrokenPipeError

    monkeypatch.setattr('dit_sam.scoring.summary', closed)
    with pytest.raises(BrokenPipeError):
        call_tool(TOOL, files['first'], '--data', files['truth'], '--rounds', '9', '--json', values)
    assert json.loads(values.read_text())['problems'] == []


def test_scores_of_masks_are_compared_with_their_iou(output_of, files, tmp_path):
    """IoU 1/2, 1 and 0 at 0.7, 0.9 and 0.1; nothing is meant by the last sentence, where the mask is wrong."""
    truth = write_lines(
        tmp_path / 'nothing.jsonl',
        truth_line('a.png', rows(0, 10), 'the man', 'man', 'a dog'),
        truth_line('b.png', None, 'a cat'),
    )
    masks = (rows(0, 5), rows(0, 10), None, rows(0, 1))
    lines = [
        dict(sent_id=i, segmentation=mask, score=score)
        for i, (mask, score) in enumerate(zip(masks, (0.7, 0.9, 0.1, 0.8)))
    ]
    page, values = tmp_path / 'page.html', tmp_path / 'values.json'
    scored = write_lines(tmp_path / 'scored.jsonl', *lines)
    output = output_of(TOOL, scored, '--data', truth, '--html', page, '--json', values)
    # |0.7 - 0.5|, |0.9 - 1| and |0.1 - 0| have the mean 0.4 / 3; the order is the same.
    assert (
        "the model's scores of 3 sentences that mean an object: mean 0.567 at a mean IoU of 0.500, mean absolute "
        'difference 0.133, rank correlation 1.00'
    ) in output
    assert '1 sentences that mean nothing: mean 0.800 at a mean IoU of 0.000, mean absolute difference 0.800' in output
    found = json.loads(values.read_text())['calibration']
    assert found['an object']['mean_difference'] == pytest.approx(0.4 / 3)
    assert found['an object']['tenths'][9] == pytest.approx([1, 0.9, 1])
    assert found['nothing']['sentences'] == 1
    calibration = page.read_text().partition('<h2>Calibration</h2>')[2].partition('<h2>')[0]
    assert all(f'<!-- sentences that mean {kind} -->' in calibration for kind in ('an object', 'nothing'))


def test_what_is_wrong_is_said_and_makes_the_status_1(files, capsys):
    assert call_tool(TOOL, files['partly'], '--data', files['truth']) == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == (
        'problem: missing: 1, the first: sentence 2 ("a dog on the left") of b.png has no answer'
    )
    assert cells(shown.out, 'original')[1] == '50.00'
    assert call_tool(TOOL, files['first'], '--data', files['truth'], '--against', files['partly']) == 1
    assert 'problem: second model: missing: 1' in capsys.readouterr().err
    page, values = files['folder'] / 'page.html', files['folder'] / 'values.json'
    arguments = ('--data', files['truth'], '--against', files['partly'], '--html', page, '--json', values)
    assert call_tool(TOOL, files['first'], *arguments) == 1
    assert 'second model: missing: 1' in page.read_text() and 'partly.jsonl' in page.read_text()
    second = json.loads(values.read_text())['second']
    assert second['title'] == 'partly.jsonl' and second['problems'] and second['protocols']['original']


def test_names_of_groups_are_no_markup_and_no_formulas(output_of, tmp_path):
    kinds = ('$\\foo$', '<script>alert(1)</script>', '$5 and $10')
    truths = [truth_line(f'{i}.jpg', rows(0, 3), 'a', kind=kind) for i, kind in enumerate(kinds)]
    answers = write_lines(tmp_path / 'a.jsonl', *(dict(sent_id=i, segmentation=None) for i in range(3)))
    data = write_lines(tmp_path / 'truth.jsonl', *truths)
    output_of(TOOL, answers, '--data', data, '--html', tmp_path / 'page.html')
    text = (tmp_path / 'page.html').read_text()
    assert '<script>' not in text and '$\\foo$' in text and '$5 and $10' in text


def test_the_worst_sentences_are_drawn(output_of, files):
    out = files['folder'] / 'worst'
    arguments = (
        TOOL,
        files['first'],
        '--data',
        files['truth'],
        '--images',
        files['folder'],
        '--worst',
        2,
        '--out',
        out,
    )
    written = output_of(*arguments).split('written:\n')[1].split()
    assert written == [str(out / name) for name in ('001_b_a-dog-on-the-left_1.png', '002_a_the-man_1.png')]
    # The picture is enlarged 16 times. Row 2 is in both masks, row 7 in the truth alone, whose last row is 9.
    half = cv2.imread(written[1])
    inside, outside, border, beside = (half[row * 16 + 8, 200] for row in (2, 7, 9, 15))
    assert (inside != 128).any() and (border != 128).any()
    assert (outside == 128).all() and (beside == 128).all()
    output_of(*arguments)
    assert len(list(out.iterdir())) == 4


def test_categories_and_distractors_of_coco_instances(output_of, tmp_path):
    """Truths as answers, from the files in RefCOCO's format."""
    write_shapes(tmp_path, 8, seed=1, splits=dict(val=1.0))
    instances, refs = tmp_path / 'shapes' / 'instances.json', tmp_path / 'shapes' / 'refs(unc).p'
    from dit_sam.scoring import Truths, open_data

    truths = Truths(open_data(str(instances), str(refs)))
    lines = []
    for row in range(len(truths)):
        info = truths.info(row)
        rle = info['segmentation']
        lines.append(dict(sent_id=info['sent_id'], segmentation=dict(rle, counts=rle['counts'].decode())))
    answers = write_lines(tmp_path / 'answers.jsonl', *lines)
    output = output_of(TOOL, answers, '--data', instances, '--refs', refs)
    assert cells(output, 'original')[:3] == ['100.00'] * 3
    content = json.loads(instances.read_text())
    assert any(f'| {one["name"]} ' in output.replace('  ', ' ') for one in content['categories'])
    assert 'distractors' in output


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['absent.jsonl', '--data', 'truth.jsonl'], 'predictions absent.jsonl not found'),
        (['first.jsonl', '--data', 'absent.jsonl'], 'data absent.jsonl not found'),
        (['first.jsonl', '--data', 'truth.jsonl', '--against', 'absent'], '--against absent not found'),
        (['first.jsonl', '--data', 'instances.json'], 'holds objects and no sentences: name the references too'),
        (['first.jsonl', '--data', 'a.png'], '--data a.png: name a config (.py)'),
        (['first.jsonl', '--data', 'truth.jsonl', '--worst', '-1'], '--worst must be 0 or more, got -1'),
        (['first.jsonl', '--data', 'truth.jsonl', '--json', '.'], 'is a folder'),
        (['first.jsonl', '--data', 'truth.jsonl', '--json', 'first.jsonl'], '--json first.jsonl is also read'),
        (['first.jsonl', '--data', 'truth.jsonl', '--json', 'x', '--html', 'x'], '--html x is also read or written'),
        (['first.jsonl', '--data', 'truth.jsonl', '--seed', '-1'], '--seed must be 0 or more, got -1'),
        (['first.jsonl', '--data', 'config.py'], 'config config.py: it has no model'),
        (['first.jsonl', '--data', 'config.py', '--split', 'testA'], '--data config.py has no use for --split testA'),
        (['first.jsonl', '--data', 'truth.jsonl', '--refs', 'first.jsonl'], 'truth.jsonl has no use for --refs first'),
        (['first.jsonl', '--data', 'truth.jsonl', '--worst', '1', '--out', 'a.png/x'], 'a.png/x cannot be written to'),
        (
            ['dump.jsonl', '--data', 'truth.jsonl'],
            'dump.jsonl answers none of the 3 sentences: incomplete: 1, the first: line 1 has no mask: test again with',
        ),
        (
            ['first.jsonl', '--data', 'truth.jsonl', '--against', 'none.jsonl'],
            'none.jsonl answers none of the 3 sentences: missing: 3, the first: sentence 0 ("the man") of a.png',
        ),
    ],
)
def test_bad_input_is_one_line(files, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(files['folder'])
    (files['folder'] / 'instances.json').write_text('{}')
    (files['folder'] / 'config.py').write_text('a = 1\n')
    write_lines(files['folder'] / 'dump.jsonl', dict(sent_id=0, iou=0.5))
    write_lines(files['folder'] / 'none.jsonl')
    assert call_tool(TOOL, *arguments) in (1, 2)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_test_set_of_a_config(output_of, tmp_path, monkeypatch):
    """The answers are empty masks."""
    write_shapes(tmp_path / 'data' / 'shapes', 8, seed=1, splits=dict(val=1.0))
    monkeypatch.chdir(tmp_path)
    refs = tmp_path / 'data' / 'shapes' / 'shapes' / 'refs(unc).p'
    from dit_sam.datasets.reference_files import load_refs

    ids = [sentence['sent_id'] for ref in load_refs(str(refs)) for sentence in ref['sentences']]
    answers = write_lines(tmp_path / 'a.jsonl', *(dict(sent_id=one, segmentation=None) for one in ids))
    output = output_of(TOOL, answers, '--data', ROOT / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')
    assert cells(output, 'original')[:2] == ['0.00', '0.00'] and f'{len(ids)} sentences about 8 pictures' in output
