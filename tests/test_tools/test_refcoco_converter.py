"""tools/dataset_converters/refcoco.py: prepared files, counts next to the published ones, hostile files."""

import json
import os
import pickle
import re
import runpy
from pathlib import Path

import pytest
from processes import ROOT, call_tool

from dit_sam.datasets import RefCOCODataset, ReferringDataset, ReferringTable
from dit_sam.datasets.shapes import write_shapes
from dit_sam.datasets.transforms import decode_segmentation

TOOL = str(ROOT / 'tools' / 'dataset_converters' / 'refcoco.py')
REAL = ROOT.parent / 'shared' / 'realref'


def convert(*arguments) -> int:
    return call_tool(TOOL, *arguments)


def rows(text: str) -> dict:
    """The printed table: (data set, split) -> cells."""
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line[:1] == '|']
    return {(line[0], line[1]): line[2:] for line in lines[1:]}


def all_of(dataset) -> list:
    return [dataset.get_data_info(index) for index in range(len(dataset))]


@pytest.fixture
def source(write_refcoco) -> Path:
    return Path(write_refcoco())


def test_every_split_becomes_a_file_with_the_same_items(source, tmp_path, capsys):
    assert convert(source, '--out', tmp_path / 'out') == 0
    names = {f'refcoco_unc_{split}.safetensors' for split in ('train', 'val', 'testA')}
    assert set(os.listdir(tmp_path / 'out')) == names
    for split in ('train', 'val', 'testA'):
        original = RefCOCODataset(str(source), split=split, test_mode=True)
        prepared = ReferringDataset(f'out/refcoco_unc_{split}.safetensors', str(tmp_path), test_mode=True)
        assert all_of(prepared) == all_of(original)
    header = ReferringTable.open(tmp_path / 'out' / 'refcoco_unc_val.safetensors').header
    assert {key: header[key] for key in ('dataset', 'partition', 'split')} == dict(
        dataset='refcoco', partition='unc', split='val'
    )
    assert sorted(header['source']) == ['instances.json', 'refs(unc).p']
    assert len(re.findall(r'\.safetensors: [1-9] kB\n', capsys.readouterr().out)) == 3


def test_counts_are_printed_next_to_the_published_ones(source, tmp_path, capsys):
    convert(source, '--out', tmp_path / 'out')
    out = capsys.readouterr().out
    assert rows(out) == {
        ('refcoco unc', 'train'): ['1 ≠ 16,994', '3 ≠ 42,404', '6 ≠ 120,624', '2'],
        ('refcoco unc', 'val'): ['2 ≠ 1,500', '2 ≠ 3,811', '4 ≠ 10,834', '2'],
        ('refcoco unc', 'testA'): ['1 ≠ 750', '1 ≠ 1,975', '1 ≠ 5,657', '1'],
        ('refcoco unc', 'all'): ['3 ≠ 19,994', '6 ≠ 50,000', '11 ≠ 142,210', '4 ≠ 50,000'],
    }
    assert 'refcoco unc: no split testB' in out and 'the paper prints 5,059 sentences' in out


def test_a_split_called_all_is_separate_from_the_total(write_refcoco, tmp_path, capsys):

    def rename(_, refs):
        for ref in refs:
            ref['split'] = ref['split'].replace('val', 'all')

    convert(write_refcoco(rename), '--out', tmp_path / 'out')
    table = [line.split('|')[2:5] for line in capsys.readouterr().out.splitlines() if line.startswith('| refcoco unc')]
    found = [(split.strip(), references.split()[0]) for split, _, references in table]
    assert found == [('train', '3'), ('all', '2'), ('testA', '1'), ('all', '6')]


def test_data_sets_with_the_same_name_are_refused(source, tmp_path, error_of):
    grefs = source / 'refcoco' / 'grefs(unc).json'
    grefs.write_text('[]')
    said = error_of('dataset_converters/refcoco.py', source, '--out', tmp_path / 'out')
    assert said.startswith(f'{grefs} and {grefs.parent}/refs(unc).p would be written to the same files, refcoco_unc_*')


def test_published_counts_add_up():
    published = runpy.run_path(TOOL)['PUBLISHED']
    for key, splits in published.items():
        for column, name in enumerate(('images', 'references', 'sentences')):
            parts = [numbers[column] for split, numbers in splits.items() if split != 'all']
            # By object and not by image: an image is in several splits.
            if parts and None not in parts and not (name == 'images' and key[1] == 'google'):
                assert sum(parts) == splits['all'][column], (key, name)


def test_all_partitions_of_the_family(source, tmp_path, capsys):
    """RefCOCO twice, RefCLEF with its lists of RLEs and overlapping test sets, gRefCOCO with its lists of objects."""
    instances = json.loads((source / 'refcoco' / 'instances.json').read_text())
    refs = pickle.loads((source / 'refcoco' / 'refs(unc).p').read_bytes())
    (source / 'refcoco' / 'refs(google).p').write_bytes(pickle.dumps([dict(ref, split='train') for ref in refs]))
    (source / 'refclef').mkdir()
    rle = instances['annotations'][1]['segmentation']
    instances['annotations'][1]['segmentation'] = [rle]
    (source / 'refclef' / 'instances.json').write_text(json.dumps(instances))
    (source / 'refclef' / 'refs(berkeley).p').write_bytes(
        pickle.dumps([dict(refs[2], split='testAB'), dict(refs[3], split='testA')])
    )
    (source / 'grefcoco').mkdir()
    (source / 'grefcoco' / 'instances.json').write_text(json.dumps(instances))
    (source / 'grefcoco' / 'grefs(unc).json').write_text(
        json.dumps([dict(refs[0], ann_id=[11, 12], category_id=[1, 1]), dict(refs[1], ann_id=[-1], category_id=[-1])])
    )
    assert convert(source, '--out', tmp_path / 'out') == 0
    found = rows(capsys.readouterr().out)
    assert found[('refcoco google', 'all')] == found[('refcoco unc', 'all')]
    assert [found[('refclef berkeley', split)][1] for split in ('testA', 'testB', 'all')] == ['2', '1', '2']
    assert found[('grefcoco unc', 'train')] == ['1', '2', '4', '2']
    prepared = ReferringDataset('out/refclef_berkeley_testB.safetensors', str(tmp_path))
    item = prepared.get_data_info(0)
    assert decode_segmentation(item['segmentation'], item['height'], item['width']).sum() == 40
    assert len(os.listdir(tmp_path / 'out')) == 7


def test_the_folder_of_one_data_set_is_accepted(source, tmp_path):
    assert convert(source / 'refcoco', '--out', tmp_path / 'out') == 0
    assert len(os.listdir(tmp_path / 'out')) == 3


class Command:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def hostile(source: Path, trace: Path) -> None:
    (source / 'refcoco' / 'refs(google).p').write_bytes(pickle.dumps([Command(f'touch {trace}')]))


def truncated(source: Path, trace: Path) -> None:
    path = source / 'refcoco' / 'refs(unc).p'
    path.write_bytes(path.read_bytes()[:-40])


def nested(source: Path, trace: Path) -> None:
    (source / 'refcoco' / 'instances.json').write_text('[' * 100000)


def not_a_number(source: Path, trace: Path) -> None:
    path = source / 'refcoco' / 'instances.json'
    path.write_text(path.read_text().replace('2280', 'NaN'))


def split_of_another_folder(source: Path, trace: Path) -> None:
    path = source / 'refcoco' / 'refs(unc).p'
    path.write_bytes(pickle.dumps([dict(ref, split='../a') for ref in pickle.loads(path.read_bytes())]))


def no_instances(source: Path, trace: Path) -> None:
    (source / 'refcoco' / 'instances.json').unlink()


def nothing(source: Path, trace: Path) -> None:
    for path in (source / 'refcoco').iterdir():
        path.unlink()


@pytest.mark.parametrize(
    'damage, message',
    [
        (hostile, 'refs(google).p is not a plain pickle of lists, dicts, numbers and text: it asks for the global'),
        (truncated, 'refs(unc).p is not a plain pickle'),
        (nested, 'instances.json is not in the format of COCO instances: it is nested too deep'),
        (not_a_number, 'annotation 12 has an RLE whose runs do not fill 40 x 60 pixels'),
        (split_of_another_folder, "refs(unc).p has a split named '../a': rename it with letters and digits only"),
        (no_instances, 'instances.json not found; refs(unc).p needs it'),
        (nothing, 'hold no refs(*).p or grefs(*).json'),
    ],
)
def test_bad_file_ends_in_one_line_and_leaves_nothing(source, tmp_path, error_of, damage, message):
    damage(source, tmp_path / 'trace')
    assert message in error_of(TOOL, source, '--out', tmp_path / 'out', alone=True)
    assert not (tmp_path / 'trace').exists() and not (tmp_path / 'out').exists()


def test_a_file_in_place_of_the_folder_is_named_early(source, tmp_path, capsys):
    (tmp_path / 'out').write_text('')
    assert convert(source, '--out', tmp_path / 'out') == 1
    assert capsys.readouterr().err == (
        f'error: {tmp_path}/out cannot be written to: {tmp_path}/out is a file; name another place\n'
    )


def test_shapes_are_converted_and_loaded(tmp_path):
    write_shapes(tmp_path / 'shapes', images=20, seed=3)
    assert (
        convert(
            tmp_path / 'shapes',
            '--out',
            tmp_path / 'out',
            '--check-images',
            '--workers',
            1,
            '--images',
            tmp_path / 'shapes' / 'images',
        )
        == 0
    )
    check_chain(str(tmp_path / 'shapes'), 'shapes', 'images', tmp_path / 'out')


@pytest.mark.skipif(not REAL.exists(), reason='the real photographs are not there')
def test_real_files_are_converted_and_loaded(tmp_path, capsys):
    assert convert(REAL, '--out', tmp_path / 'out', '--check-images', '--workers', 2, '--images', REAL / 'images') == 0
    found = rows(capsys.readouterr().out)
    assert found[('refcoco unc', 'train')][1].startswith('130 ≠')
    assert found[('refcoco unc', 'val')][2].startswith('30 ≠')
    check_chain(str(REAL), 'refcoco', 'images', tmp_path / 'out')


def check_chain(root: str, name: str, images: str, out: Path) -> None:
    """Check that the items of val, before and after the pipeline, equal those of the original files."""
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMask'), dict(type='PackReferringInputs')]
    common = dict(data_root=root, data_prefix=dict(img_path=images), test_mode=True, pipeline=pipeline)
    original = RefCOCODataset(ann_file=f'{name}/instances.json', refs_file=f'{name}/refs(unc).p', split='val', **common)
    prepared = ReferringDataset(ann_file=str(out / f'{name}_unc_val.safetensors'), **common)
    assert all_of(prepared) == all_of(original) and len(original) > 10
    for index in (0, len(original) - 1):
        one, other = (data[index]['data_samples'] for data in (prepared, original))
        assert one.text == other.text
        assert (one.gt_sem_seg.data == other.gt_sem_seg.data).all() and one.gt_sem_seg.data.any()
