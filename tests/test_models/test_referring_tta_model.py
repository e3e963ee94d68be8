"""Test-time augmentation: the views of a picture are merged into one mask."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny import assert_close, batch, sample, segmentor

from dit_sam.errors import InputError
from dit_sam.models import ReferringTTAModel


def tta(**parts) -> ReferringTTAModel:
    return MODELS.build(dict(type='ReferringTTAModel', module=segmentor(**parts).eval()))


def view(probabilities: list[float], text: str = 'left one', flip: bool = False, **more) -> SegDataSample:
    """A prediction for a picture of one row; several channels in a list each."""
    values = torch.tensor(probabilities).reshape(-1, 1, 3)
    meta = dict(text=text, flip=flip, flip_direction='horizontal' if flip else None, **more)
    return SegDataSample(metainfo=meta, seg_logits=PixelData(data=values), gt_sem_seg=PixelData(data=values > 2))


def merge(*views: SegDataSample, threshold: float = 0.5, **parts) -> SegDataSample:
    model = tta(**parts)
    model.module.decode_head.threshold = threshold
    return model.merge_preds([views])[0]


def test_probabilities_are_averaged_and_the_unflipped_sentence_is_kept():
    """(0.9 + 0.3) / 2 is 0.6, above the threshold; 0.4 and 0.1 are below."""
    merged = merge(view([0.9, 0.6, 0.2], 'right one', flip=True), view([0.3, 0.2, 0.0]))
    assert_close(merged.seg_logits.data, torch.tensor([[[0.6, 0.4, 0.1]]]))
    assert merged.pred_sem_seg.data.tolist() == [[[1, 0, 0]]]
    assert merged.text == 'left one' and not merged.flip


@pytest.mark.parametrize('empty, expected', [(1, [0.6, 0.4, 0.1]), (2, [0.6, 0.4, 0.1]), (3, [0, 0, 0])])
def test_views_vote_on_whether_there_is_a_target(empty, expected):
    """Two views with a mask, and some in which the head decided that there is no target."""
    merged = merge(view([0.9, 0.6, 0.2]), view([0.3, 0.2, 0.0]), *[view([0.0, 0.0, 0.0]) for _ in range(empty)])
    assert_close(merged.seg_logits.data, torch.tensor([[expected]]))


def test_the_predicted_iou_is_the_mean_over_the_views_whose_masks_count():
    """Two of three views have a mask: (0.9 + 0.5) / 2. Where none has one, all three count."""

    def views(*filled: bool) -> list[SegDataSample]:
        made = [view([0.9 * has_mask, 0.0, 0.0]) for has_mask in filled]
        for one, iou in zip(made, (0.9, 0.5, 0.1)):
            one.set_data(dict(predicted_iou=iou, pred_sem_seg=PixelData(data=one.seg_logits.data > 0.5)))
        return made

    assert merge(*views(True, True, False)).predicted_iou == pytest.approx(0.7)
    assert merge(*views(False, False, False)).predicted_iou == pytest.approx(0.5)


def test_logits_of_several_channels_become_probabilities_first():
    """The odds of the second channel are 9, 1, 1/9 and 1, 1/9, 1: 0.9, 0.5, 0.1 and 0.5, 0.1, 0.5."""
    two = [view([[0, 0, 0], np.log(odds).tolist()]) for odds in ([9, 1, 1 / 9], [1, 1 / 9, 1])]
    merged = merge(*two, decode_head=dict(type='FCNHead', in_channels=16, channels=8, num_classes=2))
    assert_close(merged.seg_logits.data[1], torch.tensor([[0.7, 0.3, 0.3]]))
    assert merged.pred_sem_seg.data.tolist() == [[[1, 0, 0]]]


def test_views_of_a_real_model_are_merged_at_the_original_size():
    """Two scales, which are padded in the middle, and one of them mirrored; the truth of a picture of 30 × 40."""
    model, views = tta(test_cfg=dict(keep_input_probabilities=True)), []
    for size, flip in (((24, 32), False), ((18, 24), False), ((24, 32), True)):
        one = batch([size], ['cat'])
        one['data_samples'] = [sample(size, 'cat', (30, 40))]
        one['data_samples'][0].set_metainfo(dict(flip=flip, flip_direction='horizontal' if flip else None))
        views.append(one)
    found = [model.module.test_step(one)[0] for one in views]
    alone, at_input = ([one.get(key).data for one in found] for key in ('seg_logits', 'input_probabilities'))
    data = {key: [one[key] for one in views] for key in views[0]}
    (merged,) = model.test_step(data)
    assert alone[0].shape == (1, 30, 40)
    assert_close(merged.seg_logits.data, torch.stack(alone).mean(0), 1e-6)
    # The third view has the first one's picture, as if it came mirrored, so its mask is mirrored back.
    larger = torch.nn.functional.interpolate(at_input[1][None], (24, 32), mode='bilinear', align_corners=False)[0]
    expected = torch.stack([at_input[0], larger, at_input[0].flip(-1)]).mean(0)
    assert_close(merged.input_probabilities.data, expected, 1e-6)


@pytest.mark.parametrize(
    'views, message',
    [
        (
            [view([0.9, 0.6, 0.2]), view([0.9, 0.6, 0.2], flip=True)],
            'tta_pipeline flips the image and not its sentence "left one": flip by ReferringFlip',
        ),
        ([view([0.9, 0.6, 0.2], flip=True)], 'tta_pipeline flips all views of an image'),
    ],
)
def test_wrongly_flipped_views_are_refused(views, message):
    with pytest.raises(InputError, match=message):
        merge(*views)
