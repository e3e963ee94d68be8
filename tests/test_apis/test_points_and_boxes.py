"""Points and boxes in pixels of the picture, from every form of input to the head."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tiny_inferencer import CONFIG, picture, save_random_weights, tiny_config

from dit_sam.apis import InputError, ReferringInferencer

BOX, POINTS = [10, 5, 40, 45], [[20, 30], [70.5, 8, 0]]


def masks_of(result: dict) -> np.ndarray:
    return np.stack([prediction['mask'] for prediction in result['predictions']])


def sums_of(inferencer: ReferringInferencer, *args, **kwargs) -> list:
    """A number for each sentence that any change of the probabilities changes."""
    samples = inferencer(*args, return_datasamples=True, **kwargs)['predictions']
    return [float(sample.seg_logits.data.double().sum()) for sample in samples]


@pytest.fixture
def prompts_of(inferencer, monkeypatch):
    """`prompts_of(image, sentences, ...)`: the points, labels and sizes that the head gets, for each sentence."""

    def call(*args, **kwargs) -> list:
        seen, decode = [], inferencer.model.decode_head.decode

        def spy(inputs, text=None, prompts=None):
            seen.append(prompts)
            return decode(inputs, text, prompts)

        monkeypatch.setattr(inferencer.model.decode_head, 'decode', spy)
        inferencer(*args, **kwargs)
        monkeypatch.undo()
        return seen

    return call


def test_prompts_move_with_resize_and_padding(prompts_of):
    """60 × 90 is resized to 96 × 144, by 1.6, and centered in 144 × 144, 24 rows down."""
    (found,) = prompts_of(picture(60, 90), 'a', points=POINTS, boxes=BOX)
    assert found.size == (144, 144) and found.labels.tolist() == [[1, 0, 2, 3]]
    # (20 + 0.5) * 1.6 - 0.5 = 32.3; (30 + 0.5) * 1.6 - 0.5 + 24 = 72.3
    expected = [[32.3, 72.3], [113.1, 37.1], [16, 32], [64, 96]]
    np.testing.assert_allclose(found.points[0], expected, atol=1e-4)


def test_points_may_be_anywhere_on_the_last_pixel(prompts_of):
    """Also between its middle, (89, 59), and its outer edge, where (90 + 0.5) * 1.6 - 0.5 = 144.3."""
    (found,) = prompts_of(picture(60, 90), 'a', points=[[89.5, 59.5], [90, 60]])
    np.testing.assert_allclose(found.points[0][:2], [[143.5, 119.5], [144.3, 120.3]], atol=1e-4)


@pytest.mark.parametrize('none', [[], np.empty((0, 2)), np.empty((0, 3)), torch.empty(0, 2), [None]], ids=str)
def test_no_points_are_no_prompt(prompts_of, none):
    """As from a detector that finds nothing."""
    assert prompts_of(picture(), 'a', points=none) == [None]


def test_coordinates_are_those_of_the_picture_as_shown(prompts_of, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by 90 degrees
    Image.fromarray(np.ascontiguousarray(np.rot90(picture(60, 90)))).save(tmp_path / 'a.png', exif=exif)
    (turned,) = prompts_of(tmp_path / 'a.png', 'a', points=POINTS, boxes=BOX)
    (upright,) = prompts_of(picture(60, 90), 'a', points=POINTS, boxes=BOX)
    assert torch.equal(turned.points, upright.points)


@pytest.mark.parametrize('single', [True, False])
def test_prompts_for_all_sentences_or_for_each(inferencer, single):
    def sums(**prompts):
        image, sentences = picture(), ['star', 'circle']
        if single:
            return sums_of(inferencer, image, sentences, **prompts)
        return sums_of(inferencer, [image], [sentences], **{key: [value] for key, value in prompts.items()})

    none, box, points = sums(), sums(boxes=BOX), sums(points=POINTS)
    assert len({*none, *box, *points}) == 6
    assert sums(boxes=[BOX, BOX]) == sums(boxes=np.array(BOX)) == box
    assert sums(points=np.array([[20, 30, 1], [70.5, 8, 0]])) == points
    assert sums(points=[[], POINTS]) == [none[0], points[1]]
    assert sums(boxes=[None, BOX], points=[POINTS, None]) == [points[0], box[1]]
    assert sums(boxes=[None, None], points=None) == none


def test_batches_give_the_same_masks_as_single_pairs(inferencer):
    images = [picture(60, 90), picture(90, 50, 1), picture(33, 47, 2)]
    sentences = [['star', 'circle'], 'square', ['heart', 'a thing', 'star']]
    prompts = dict(
        points=[POINTS, None, [None, [[3, 4]], [[5, 6, 0], [7, 8], [9, 10]]]], boxes=[[None, BOX], [0, 0, 50, 90], None]
    )
    alone = [
        masks_of(inferencer(image, text, points=points, boxes=box))
        for image, text, points, box in zip(images, sentences, *prompts.values())
    ]
    for batch_size in (1, 4, 100):
        together = inferencer(images, sentences, batch_size=batch_size, **prompts)['predictions']
        for prediction, mask in zip(together, [mask for masks in alone for mask in masks], strict=True):
            np.testing.assert_array_equal(prediction['mask'], mask)


def test_a_model_without_text_uses_only_prompts(tmp_path):
    cfg = Config.fromfile(CONFIG.replace('ldit_vit-t_shapes', 'sam_vit-t_shapes'))
    cfg.model.backbone.arch = tiny_config().model.backbone.arch
    save_random_weights(tmp_path / 'a.safetensors', cfg=cfg)
    sam = ReferringInferencer(cfg, tmp_path / 'a.safetensors', device='cpu')
    first, second = sums_of(sam, picture(), ['star', 'circle'], boxes=[BOX, [50, 20, 89, 59]])
    assert first != second and sums_of(sam, picture(), 'whatever', boxes=BOX) == [first]


@pytest.mark.parametrize(
    'prompts, message',
    [
        (dict(boxes=[1, 2, 3]), 'the box for image_1 is [1, 2, 3]: give left, top, right, bottom, in this order'),
        (dict(boxes=[40, 5, 10, 45]), 'the box for image_1 is [40, 5, 10, 45]: give left, top'),
        (dict(boxes=7), 'the box for image_1 is 7: give left, top'),
        (dict(boxes='1,2,3,4'), 'the box for image_1 is 1,2,3,4, not finite numbers: give left'),
        (dict(boxes=[0, 0, 1, float('nan')]), 'the box for image_1 is [0, 0, 1, nan], not finite numbers'),
        (dict(boxes=[0, 0, 91, 60]), 'the corner (91, 60) is outside image image_1: x goes from 0 to 90 and y to 60'),
        (dict(boxes=[BOX] * 3), '2 sentences for image_1, but boxes for 3: give the same for all, or a list'),
        (dict(points=[20, 30]), 'the points for image_1 are [20, 30]: give (x, y) or (x, y, label)'),
        (dict(points=[[20, 30, 2]]), 'the points for image_1 are [[20, 30, 2]]: give (x, y)'),
        (dict(points=[[20, 60.5]]), 'the point (20, 60.5) is outside image image_1: x goes from 0 to 90 and y to 60'),
        (dict(points=[[[1, 2]]]), '2 sentences for image_1, but points for 1: '),
        (dict(points=[['a', 'b']]), "a point for image_1 is ['a', 'b'], not finite numbers"),
    ],
)
def test_invalid_prompts_are_one_line_errors(inferencer, prompts, message):
    with pytest.raises(InputError) as caught:
        inferencer(picture(), ['star', 'circle'], **prompts)
    assert str(caught.value).startswith(message) and '\n' not in str(caught.value)


def test_several_images_need_prompts_for_each(inferencer):
    with pytest.raises(InputError, match='2 images, but boxes for 4: give a list with an entry, or None, for each'):
        inferencer([picture(), picture()], 'star', boxes=BOX)
    with pytest.raises(InputError, match='2 images, but points for none of them'):
        inferencer([picture(), picture()], 'star', points=3)


def test_prompts_for_a_model_without_prompts_are_an_error(inferencer, monkeypatch):
    head = torch.nn.Module()
    head.forward = lambda inputs: inputs
    monkeypatch.setitem(inferencer.model._modules, 'decode_head', head)
    with pytest.raises(InputError, match='points or boxes are given, but Module takes none: leave them out, or'):
        inferencer(picture(), 'star', boxes=BOX)


def test_a_pipeline_that_may_move_the_image_is_refused():
    cfg = tiny_config()
    cfg.test_dataloader.dataset.pipeline.insert(2, dict(type='ReferringFlip', prob=0.5))
    with pytest.raises(
        InputError,
        match='after Resize the test pipeline has steps that may move the image under '
        'them: ReferringFlip, PackReferringInputs',
    ):
        ReferringInferencer(cfg, device='cpu')(picture(), 'star', points=[[1, 2]])


def test_both_resizes_keep_images_under_their_prompts(inferencer):
    cfg = tiny_config()
    cfg.test_dataloader.dataset.pipeline[1].type = 'ReferringResize'
    other = ReferringInferencer(cfg, device='cpu')
    other.model.load_state_dict(inferencer.model.state_dict())
    found, expected = (each(picture(), 'star', points=[[1, 2]])['predictions'][0] for each in (other, inferencer))
    assert (found['mask'] == expected['mask']).all()


def test_a_model_trained_without_prompts_warns(inferencer, monkeypatch):
    lines = []
    monkeypatch.setattr('dit_sam.apis.prompts.log_warning', lines.append)
    inferencer(picture(), 'star', boxes=BOX)
    assert len(lines) == 1 and lines[0].startswith('this model was not trained with points and boxes')
    inferencer(picture(), 'star')
    assert len(lines) == 1
