"""Results of many pictures one by one, some of which cannot be used."""

import cv2
import pytest
from PIL import Image
from tiny_inferencer import picture


def test_a_stream_goes_on_after_what_cannot_be_used(inferencer, tmp_path):
    """Also in a batch with others, and at the end."""
    names = ['a.png', 'b.png', 'c.png', 'd.png', 'e.png', 'f.png']
    for name in names:
        cv2.imwrite(str(tmp_path / name), picture())
    (tmp_path / 'b.png').write_bytes(b'<html>')
    Image.new('RGB', (900, 1)).save(tmp_path / 'd.png')
    paths = [str(tmp_path / name) for name in [*names[:-1], 'none.png']]
    whole = inferencer([paths[0], paths[2], paths[4]], 'circle', return_masks='rle')['predictions']
    (tmp_path / 'none.png').write_bytes(b'')
    for batch_size in (1, 2, 4):
        found = list(inferencer.stream(paths, 'circle', batch_size=batch_size, return_masks='rle'))
        assert [one.name for one in found] == paths
        assert [one.error is None for one in found] == [True, False, True, False, True, False]
        assert [prediction['segmentation'] for one in found for prediction in one.predictions] == [
            one['segmentation'] for one in whole
        ]
    assert 'b.png cannot be decoded' in str(found[1].error) and 'd.png of 900×1 pixels is too' in str(found[3].error)


@pytest.mark.parametrize('after', ['gone', 'another size'])
def test_a_stream_goes_on_after_an_image_that_changes(inferencer, tmp_path, monkeypatch, after):
    """Between its masks and its picture, as the file of a camera may."""
    for name in 'ab':
        cv2.imwrite(str(tmp_path / f'{name}.png'), picture())
    load, loads = inferencer.pipeline.load, []

    def changing(image, name):
        loads.append(name)
        if len(loads) == 2:
            (tmp_path / 'a.png').unlink()
            if after == 'another size':
                cv2.imwrite(str(tmp_path / 'a.png'), picture(30, 40))
        return load(image, name)

    monkeypatch.setattr(inferencer.pipeline, 'load', changing)
    found = list(inferencer.stream([str(tmp_path / 'a.png'), str(tmp_path / 'b.png')], 'circle', return_vis=True))
    assert [one.error is None for one in found] == [False, True] and found[1].picture is not None
    message = 'had 90×60 pixels when it was segmented, and has 40×30 now'
    assert (message if after == 'another size' else 'it could be read before, for its masks') in str(found[0].error)
