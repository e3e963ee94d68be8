import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from dit_sam.visualization import file_stem, write_image, write_new


@pytest.mark.parametrize(
    'image, sentences, stem',
    [
        ('photos/a.b.jpg', ['The man, in RED!'], 'a.b_the-man-in-red'),
        ('a.png', ['left', 'right one'], 'a_left-right-one'),
        ('a.png', ['左边的人 ÉTÉ'], 'a_左边的人-été'),
        ('a.png', ['../../etc'], 'a_etc'),
        ('a.png', ['?'], 'a'),
    ],
)
def test_stem(image, sentences, stem):
    assert file_stem(image, *sentences) == stem


def test_long_names_fit_the_file_system(tmp_path):
    for text in ('x' * 300, '左' * 300, 'a ' * 300):
        path = write_new(b'', str(tmp_path), file_stem(f'{text}.png', text), '.json')
        assert len(os.path.basename(path).encode()) <= 255


def test_names_are_counted_and_nothing_is_replaced(tmp_path):
    folder = str(tmp_path / 'new' / 'folder')
    paths = [write_new(content, folder, 'a', '.txt') for content in (b'1', b'2', b'3')]
    assert [os.path.basename(path) for path in paths] == ['a_1.txt', 'a_2.txt', 'a_3.txt']
    assert [Path(path).read_bytes() for path in paths] == [b'1', b'2', b'3']
    assert sorted(os.listdir(folder)) == ['a_1.txt', 'a_2.txt', 'a_3.txt']


def test_file_systems_without_links(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError('no links here')

    monkeypatch.setattr(os, 'link', refuse)
    for content in (b'1', b'2'):
        write_new(content, str(tmp_path), 'a', '.txt')
    assert sorted(os.listdir(tmp_path)) == ['a_1.txt', 'a_2.txt']
    assert (tmp_path / 'a_1.txt').read_bytes() == b'1'


def test_written_images_are_unchanged(tmp_path):
    color = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for image in (color, color[..., 0]):
        path = write_image(image, str(tmp_path), 'a')
        written = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written[..., ::-1] if image.ndim == 3 else written, image)
