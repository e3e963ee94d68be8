"""`dit-sam audit`: which evaluation pictures were trained on, on files whose overlap a reader can count."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile import Hostile
from processes import call_tool

from dit_sam.datasets import TableBuilder
from dit_sam.datasets.audit import name_key
from dit_sam.datasets.held_out import Picture

CASES = Path(__file__).parents[3] / 'shared' / 'cases'


def refs(**splits: list[int]) -> list[dict]:
    """References to these images by split, each with two sentences; an image that is named twice has two."""
    images = [(split, image) for split, images in splits.items() for image in images]
    return [
        dict(
            ref_id=number,
            ann_id=number,
            image_id=image,
            category_id=1,
            split=split,
            file_name=f'COCO_train2014_{image:012d}_{number}.jpg',
            sentences=[dict(sent_id=2 * number, sent='it'), dict(sent_id=2 * number + 1, sent='that')],
        )
        for number, (split, image) in enumerate(images)
    ]


@pytest.fixture
def write(tmp_path, monkeypatch) -> Callable:
    """`write(name, content)` writes a file of the kind that its suffix names, in the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, content) -> str:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == '.p':
            path.write_bytes(pickle.dumps(content))
        elif path.suffix == '.json':
            path.write_text(json.dumps(content))
        elif path.suffix == '.jsonl':
            path.write_text('\n'.join(json.dumps(line) for line in content))
        else:
            path.write_text('\n'.join(map(str, content)))
        return name

    return write


@pytest.fixture
def joint(write) -> None:
    """Two sets on images 1 to 8. Of `plain` 1 to 4 are of train, of `plus` 3 to 8 are not."""
    write('plain/refs(unc).p', refs(train=[1, 2, 3, 4], val=[5, 6], testAB=[7]))
    write('plus/refs(unc).p', refs(train=[1, 2], val=[3, 3, 5], testA=[4, 8], testB=[6]))


def audit(train: list[str], test: list[str], *options: object) -> tuple[int, dict]:
    """The exit status, and what --json wrote."""
    status = call_tool('analysis_tools/audit.py', '--train', *train, '--test', *test, '--json', 'a.json', *options)
    return status, json.loads(Path('a.json').read_text())


def counts(report: dict) -> list[tuple]:
    """Split, pictures, those trained on, by id, by name only, with another name, and unknown, of each set."""
    keys = ('split', 'pictures', 'trained_on', 'by_id', 'by_file_name', 'same_id_other_name', 'unknown')
    return [tuple(row[key] for key in keys) for row in report['test']]


def test_each_split_says_how_many_pictures_were_trained_on(joint, capsys):
    status, report = audit(['plain/refs(unc).p'], ['plus/refs(unc).p', 'plain/refs(unc).p'])
    assert status == 1
    assert counts(report) == [
        ('val', 2, 1, 1, 0, 0, 0),  # 3, not 5
        ('testA', 2, 1, 1, 0, 0, 0),  # 4, not 8
        ('testB', 1, 0, 0, 0, 0, 0),
        ('val', 2, 0, 0, 0, 0, 0),
        # RefCLEF's testAB is of both.
        ('testA', 1, 0, 0, 0, 0, 0),
        ('testB', 1, 0, 0, 0, 0, 0),
    ]
    val = report['test'][0]
    assert [val[f'references{end}'] for end in ('_affected', '')] == [2, 3]
    assert [val[f'sentences{end}'] for end in ('_affected', '')] == [4, 6]
    assert val['leaked_pictures'] == [
        dict(image_id=3, file_name='COCO_train2014_000000000003.jpg', by='id', train=['plain/refs(unc).p (train)'])
    ]
    assert report['train'] == [dict(source='plain/refs(unc).p', split='train', pictures=4, unknown=0)]
    out = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in out[3].split('|')][1:-1] == (
        ['plus/refs(unc).p', 'val', '2', '1', '50.0', '1', '0', '2 of 3', '4 of 6', '0', '0']
    )
    assert 'trained on: plus/refs(unc).p (val): 3 (COCO_train2014_000000000003.jpg), by id in plain/refs(unc).p' in (
        '\n'.join(out)
    )
    assert out[-1] == ('Trained on: 2 of the 9 evaluation pictures, in 2 of 6 sets; these are not unseen pictures.')


def test_disjoint_sets_are_clean_and_end_with_status_0(joint, capsys):
    assert call_tool('analysis_tools/audit.py', '--train', 'plain', '--test', 'plain', '--list', 0) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        'None of the 4 evaluation pictures was found in the training sets.'
    )


@pytest.mark.parametrize(
    'train, test, found',
    [
        ('plain/refs(unc).p:val', 'plus/refs(unc).p:val', [('val', 1)]),
        ('plain:train,val', 'plus:testB,val', [('val', 2), ('testB', 1)]),
        ('plain/refs(unc).p:all', 'plus/refs(unc).p:all', [('val', 2), ('testA', 1), ('testB', 1), ('train', 2)]),
        # A file of that name comes before a split.
        ('a:b/refs(x).p:train', 'plain/refs(unc).p:val', [('val', 2)]),
        ('plain/refs(unc).p:val', 'a:b/refs(x).p:train', [('train', 2)]),
        ('x.p:val.p', 'plain/refs(unc).p', [('val', 2), ('testA', 0), ('testB', 0)]),
    ],
)
def test_a_colon_names_splits(joint, write, train, test, found):
    write('a:b/refs(x).p', refs(train=[5, 6]))
    write('x.p', refs(train=[1]))
    write('x.p:val.p', refs(train=[5, 6]))
    assert [row[:3:2] for row in counts(audit([train], [test])[1])] == found


def prepared(path: str, split: str, *images: int) -> None:
    builder = TableBuilder()
    for image in images:
        row = builder.add_image(image, f'COCO_train2014_{image:012d}.jpg', 4, 6)
        builder.add_reference(
            image, 0, row, builder.add_target(image, np.ones((4, 6), bool)), [dict(sent_id=1, text='a')]
        )
    builder.build(split=split).save(path)


# Each holds image 3 of the val split below, and image 9.
FORMS = {
    'refs(unc).p': refs(train=[3, 9]),
    'grefs(unc).json': refs(train=[3, 9]),
    'mine.jsonl': [dict(image='x/COCO_train2014_000000000003.jpg'), dict(image='b.png', image_id=9)],
    'instances.json': dict(images=[dict(id=3, file_name='000000000003.jpg'), dict(id=9, file_name='000000000009.jpg')]),
    'ids.txt': [3, '', 9],
    'names.txt': ['val2014/COCO_val2014_000000000003.png', '000000000009.jpg'],
}


@pytest.mark.parametrize('form', [*FORMS, 'train.safetensors', 'folder'])
def test_every_form_of_source_is_read_on_both_sides(write, form):
    write('other/refs(unc).p', refs(train=[1], val=[2, 3]))
    if form in FORMS:
        write(form, FORMS[form])
    else:
        Path('folder').mkdir()
        prepared('train.safetensors' if form != 'folder' else 'folder/train.safetensors', 'train', 3, 9)
        prepared('folder/val.safetensors', 'val', 2)
    status, report = audit([form], ['other/refs(unc).p'])
    by_name = form == 'names.txt' or form == 'mine.jsonl'
    assert (status, counts(report)) == (1, [('val', 2, 1, int(not by_name), int(by_name), 0, 0)])
    split = ':train' if form.endswith(('.p', '.safetensors', 'folder')) or form.startswith('grefs') else ''
    status, report = audit(['other:val'], [form + split])
    assert (status, counts(report)) == (1, [(split[1:], 2, 1, int(not by_name), int(by_name), 0, 0)])


def test_the_id_of_another_numbering_is_no_leak_but_is_counted(write, capsys):
    """Visual Genome and RefCLEF number other pictures by the same numbers."""
    write('test.p', refs(val=[3, 4, 5]))
    write('phrases.jsonl', [dict(image='VG_100K/3.jpg', image_id=3), dict(image='VG_100K/7.jpg', image_id=7)])
    clef = [dict(ref, file_name=f'{ref["image_id"]}_2.jpg') for ref in refs(train=[4], val=[4])]
    write('clef.p', clef)
    status, report = audit(['phrases.jsonl', 'clef.p'], ['test.p', 'clef.p'])
    assert (status, counts(report)) == (1, [('val', 3, 0, 0, 0, 2, 0), ('val', 1, 1, 1, 0, 0, 0)])
    assert report['test'][0]['same_id_other_name_pictures'] == [
        dict(image_id=3, file_name='COCO_train2014_000000000003.jpg', train=['phrases.jsonl']),
        dict(image_id=4, file_name='COCO_train2014_000000000004.jpg', train=['clef.p (train)']),
    ]
    assert ' Same id as a training picture, other file name: 2;' in capsys.readouterr().out
    # Images that were numbered anew are found by their names.
    images = [dict(id=number, file_name=f'{image:012d}.jpg') for number, image in enumerate((5, 9), 3)]
    write('anew.json', dict(images=images, annotations=[dict(id=1, image_id=3)]))
    assert counts(audit(['anew.json'], ['test.p'])[1]) == [('val', 3, 1, 0, 1, 2, 0)]
    # An id whose file name is unknown on one side counts.
    write('ids.txt', [3])
    assert counts(audit(['ids.txt'], ['phrases.jsonl'])[1]) == [('', 2, 1, 1, 0, 0, 0)]


def test_pictures_without_a_number_are_compared_by_name_or_else_unknown(write, capsys):
    write('train.jsonl', [dict(image='a/beach.jpg'), dict(image='a/sea.jpg', image_id='s'), dict(image='hut.jpg')])
    write('test.jsonl', [dict(image='beach.png'), dict(image='sea.jpg', image_id='s'), dict(image='dog.jpg')])
    status, report = audit(['train.jsonl'], ['test.jsonl'])
    assert (status, counts(report)) == (1, [('', 3, 2, 1, 1, 0, 1)])
    assert report['test'][0]['unknown_pictures'] == [dict(image_id='', file_name='dog.jpg')]
    assert report['train'][0]['unknown'] == 3
    out = capsys.readouterr().out
    assert 'unknown: test.jsonl: dog.jpg is one of 1 without a number' in out
    last = out.splitlines()[-1]
    assert 'agree only in a file name that is not of COCO: 1, such as beach.png' in last
    assert 'Cannot be compared, without a number and a name that is in training: 1' in last
    assert 'Training pictures without a number, which may be any evaluation picture: 3' in last
    # A text that no terminal shows.
    write('odd.p', [dict(ref, file_name='\ud800\n', image_id='a') for ref in refs(val=[1])])
    assert call_tool('analysis_tools/audit.py', '--train', 'train.jsonl', '--test', 'odd.p') == 0
    assert r'unknown: odd.p (val): a (\ud800\n) is one of 1' in capsys.readouterr().out
    # Nothing is found, and nothing is called clean.
    write('dogs.txt', ['dog.jpg'])
    assert audit(['train.jsonl'], ['dogs.txt'])[0] == 0
    assert 'Cannot be compared' in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    'name, key',
    [
        ('train2014/COCO_train2014_000000581857.jpg', '000000581857'),
        ('a\\000000581857.PNG', '000000581857'),
        ('COCO_train2014_581857.jpg', '000000581857'),
        ('581857.jpg', '581857'),
        ('VG/beach.v2.jpg', 'beach.v2'),
        ('', ''),
    ],
)
def test_what_two_names_of_a_picture_have_in_common(name, key):
    assert name_key(Picture(7, name)) == key


@pytest.mark.parametrize(
    'train, test, message',
    [
        ('none.p', 'refs.p', '--train none.p not found: check the path'),
        ('refs.p', 'refs.q', '--test refs.q not found: did you mean refs.p?'),
        (
            'hostile.p',
            'refs.p',
            'hostile.p is not a plain pickle of lists, dicts, numbers and text: it asks for the global',
        ),
        ('empty.txt', 'refs.p', 'empty.txt names no picture: name another file'),
        ('binary.txt', 'refs.p', 'binary.txt is not text with one image id or file name a line'),
        ('refs.p:testC', 'refs.p', '--train: refs.p has no split testC, it has train and val'),
        ('ids.txt:val', 'refs.p', '--train: ids.txt has no split val, as it has no splits: name it alone'),
        ('refs.p', 'train.p', '--test: train.p has no split besides train, it has train; FILE:SPLIT names'),
        ('folder', 'refs.p', '--train: folder holds none of refs(*).p'),
        ('config.py', 'refs.p', 'config.py is of no kind that is known: there are references (refs(*).p'),
        ('bad.jsonl', 'refs.p', 'bad.jsonl, line 2 has no "image", the path of an image'),
        ('typed.jsonl', 'refs.p', 'typed.jsonl, line 1 has 1.5 as "image_id", which must be int or str'),
        ('coco.json', 'refs.p', "coco.json is not in the format of COCO instances: the key 'id' is missing"),
        ('list.json', 'refs.p', 'list.json: item 0 has no key "ref_id"'),
    ],
)
def test_bad_input_is_one_line_with_status_1(write, capsys, train, test, message):
    write('refs.p', refs(train=[1], val=[2]))
    write('train.p', refs(train=[1]))
    write('hostile.p', Hostile(Path('harm').absolute()))
    write('empty.txt', ['', ' '])
    Path('binary.txt').write_bytes(b'\xff\xd8\xff')
    write('ids.txt', [1])
    Path('folder').mkdir()
    write('config.py', [])
    write('bad.jsonl', [dict(image='a.jpg'), dict(img='b.jpg')])
    write('typed.jsonl', [dict(image='a.jpg', image_id=1.5)])
    write('coco.json', dict(images=[dict(file_name='a.jpg')]))
    write('list.json', [dict(image='a.jpg')])
    command = ('--train', train, '--test', test, '--json', 'a.json')
    assert call_tool('analysis_tools/audit.py', *command) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f'error: {message}')
    assert not Path('a.json').exists() and not Path('harm').exists()


def test_a_report_that_cannot_be_written_is_refused_before_the_sources_are_read(joint, capsys):
    command = ('analysis_tools/audit.py', '--train', 'plain', '--test', 'plus', '--json')
    assert call_tool(*command, 'plus') == 1
    assert capsys.readouterr().err == 'error: plus is a folder: name a file in it\n'
    Path('x.txt').write_text('5')
    assert call_tool(*command, 'x.txt', '--train', 'x.txt') == 1
    assert (
        capsys.readouterr().err == 'error: --json x.txt is also read or written by another option: name another file\n'
    )
    assert Path('x.txt').read_text() == '5'
    assert call_tool('analysis_tools/audit.py', '--train', 'plain') == 2


@pytest.mark.skipif(not (CASES / 'leak.jsonl').is_file(), reason='the case files are not here')
def test_every_form_of_a_coco_name_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, report = audit([f'{CASES}/leak_refs(unc).p:val'], [f'{CASES}/leak.jsonl'])
    assert (status, counts(report)) == (1, [('', 7, 7, 2, 5, 0, 0)])
    # One picture each, of the same name in two folders.
    status, report = audit([f'{CASES}/joined/cam1/val.jsonl'], [f'{CASES}/joined/cam2/val.jsonl'])
    assert (status, counts(report)) == (1, [('', 1, 1, 0, 1, 0, 0)])
