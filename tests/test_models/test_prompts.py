"""Points and boxes, with and without text, compared with segment_anything's prompt encoder and mask decoder."""

import pytest
import torch
from mmseg.registry import MODELS
from tiny import assert_close, batch, decode_head, noise, randomize, segmentor, text_encoder

from dit_sam.compat import import_sam_modeling
from dit_sam.errors import InputError
from dit_sam.models import SAMHead
from dit_sam.structures import SpatialPrompts, TextFeatures

GRID, SIZE = (5, 7), (40, 56)
POINTS = [torch.tensor([[3.0, 4.0], [50.5, 39.0]]), None, torch.tensor([[0.0, 0.0]]), None]
LABELS = [torch.tensor([1, 0]), None, None, None]
BOXES = [None, torch.tensor([2.0, 3.0, 30.0, 21.0]), torch.tensor([10.0, 9.0, 55.0, 40.0]), None]


def build(**kwargs) -> SAMHead:
    return randomize(MODELS.build(decode_head(**kwargs)))


def prompts(items=range(4)) -> SpatialPrompts:
    """Two points; a box; a point and a box; nothing."""
    items = list(items)
    return SpatialPrompts.collate(
        [POINTS[i] for i in items], [LABELS[i] for i in items], [BOXES[i] for i in items], SIZE
    )


def segment_anything(head: SAMHead, image: torch.Tensor, i: int, text: torch.Tensor | None = None) -> torch.Tensor:
    """The single mask of item i by segment_anything's own modules with the head's weights."""
    sam = import_sam_modeling()
    encoder = sam.PromptEncoder(16, GRID, SIZE, mask_in_chans=16)
    encoder.load_state_dict(head.prompt_encoder.state_dict(), strict=True)
    decoder = sam.MaskDecoder(
        transformer_dim=16, transformer=sam.TwoWayTransformer(2, 16, 2, 32), iou_head_hidden_dim=16
    )
    decoder.load_state_dict(head.mask_decoder.state_dict(), strict=True)
    points, box = POINTS[i], BOXES[i]
    if points is not None:
        labels = torch.ones(len(points)) if LABELS[i] is None else LABELS[i]
        points = (points[None], labels[None])
    sparse, dense = encoder(points=points, boxes=None if box is None else box[None], masks=None)
    if text is not None:
        sparse = torch.cat([sparse, text], 1)
    return decoder(image, encoder.get_dense_pe(), sparse, dense, multimask_output=False)[0]


@pytest.mark.parametrize('with_text', [False, True])
def test_a_ragged_batch_equals_segment_anything_item_by_item(with_text, kernel):
    head, image = build(), noise(4, 16, *GRID)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    text = TextFeatures(noise(4, 3, 16, seed=5), mask) if with_text else None
    actual = head((image,), text, prompts())
    expected = [
        segment_anything(head, image[i : i + 1], i, head.text_proj(text.tokens[i : i + 1, mask[i]]) if text else None)
        for i in range(4)
    ]
    assert_close(actual, torch.cat(expected))


def test_prompts_change_the_mask_and_padding_does_not():
    head, image = build(), noise(2, 16, *GRID)
    alone = torch.cat([head((image[:1],), None, prompts([1])), head((image[1:],), None, prompts([0]))])
    assert_close(head((image,), None, prompts([1, 0])), alone, 1e-6)
    assert (head((image,), None, prompts([0, 0])) - head((image,), None, prompts([1, 1]))).abs().max() > 1e-3


def test_corner_labels_match_sams():
    """(x, y) of the upper left and lower right corner, and −1 for points without a box."""
    found = prompts()
    assert found.labels.tolist() == [[1, 0, -1], [2, 3, -1], [1, 2, 3], [-1, -1, -1]]
    assert found.mask.tolist() == [[True] * 3, [True, True, False], [True] * 3, [False] * 3]
    assert found.points[1, :2].tolist() == [[2, 3], [30, 21]]


@pytest.mark.parametrize('spatial', [False, True])
@pytest.mark.parametrize('given', [None, 'points', 'boxes'])
def test_with_spatial_prompts_their_embeddings_always_get_a_gradient(spatial, given):
    """For any content of a batch, as DistributedDataParallel needs."""
    head, image = build(spatial_prompts=spatial), noise(1, 16, *GRID)
    text = TextFeatures(noise(1, 2, 16), torch.ones(1, 2, dtype=torch.bool))
    head((image,), text, {None: None, 'points': prompts([0]), 'boxes': prompts([1])}[given]).sum().backward()
    assert {name for name, parameter in head.named_parameters() if parameter.grad is None} == {
        name for name, parameter in head.named_parameters() if not parameter.requires_grad
    }
    places = head.prompt_encoder.point_embeddings
    assert all(part.weight.requires_grad == spatial for part in places)
    if spatial and given:
        moved = [bool(part.weight.grad.abs().sum() > 0) for part in places]
        assert moved == ([True, True, False, False] if given == 'points' else [False, False, True, True])


def test_labels_that_do_not_fit_the_points_are_an_error():
    with pytest.raises(ValueError, match='2 points with 1 labels'):
        SpatialPrompts.collate([torch.zeros(2, 2)], [torch.ones(1)], [None], SIZE)


def prompted(data: dict) -> dict:
    """A point for the first item (32 × 32), a box for the second (24 × 32)."""
    first, second = data['data_samples']
    first.set_metainfo(dict(points=[[5.0, 6.0]], point_labels=[1]))
    second.set_metainfo(dict(box=[1.0, 2.0, 20.0, 23.0]))
    return data


def test_prompts_move_with_the_padding():
    """24 × 32 in the middle of 32 × 32: 4 rows above."""
    model = segmentor()
    data = model.data_preprocessor(prompted(batch()), training=True)
    found = model.collect_prompts(**data)
    assert found.size == (32, 32)
    assert found.points[0, 0].tolist() == [5, 6]
    assert found.points[1].tolist() == [[1, 6], [20, 27]]


def test_points_can_be_scaled_with_the_picture():
    """The pixel (3, 4) of a picture enlarged by 2 and 1.5: (6.5, 6.25) by its middle, (6, 6) as SAM's predictor."""
    data = segmentor().data_preprocessor(batch([(32, 32)], ['cat']))
    data['data_samples'][0].set_metainfo(
        dict(points=[[6.5, 6.25]], box=[1.0, 2.0, 20.0, 23.0], scale_factor=(2.0, 1.5))
    )
    found = segmentor(scaled_points=True).collect_prompts(**data).points[0].tolist()
    assert found == [[6, 6], [1, 2], [20, 23]]
    assert segmentor().collect_prompts(**data).points[0].tolist() == [[6.5, 6.25], *found[1:]]


@pytest.mark.parametrize('with_text', [False, True])
def test_a_segmentor_trains_and_predicts_with_points_and_boxes(with_text):
    model = segmentor(
        text_encoder=text_encoder() if with_text else None,
        backbone=dict(type='SAMViT', arch='tiny', img_size=32, patch_size=8, out_channels=16),
        decode_head=decode_head(text_dims=16 if with_text else None, spatial_prompts=True),
    )
    losses = model(**model.data_preprocessor(prompted(batch()), training=True), mode='loss')
    losses['decode.loss_bce'].backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        there, nowhere = (model.eval().test_step(data) for data in (prompted(batch()), batch()))
    assert there[1].pred_sem_seg.shape == (24, 32)
    assert (there[0].seg_logits.data - nowhere[0].seg_logits.data).abs().max() > 1e-4


def test_text_for_a_head_without_text_is_an_error():
    head = build(text_dims=None)
    assert not any(name.startswith('text_proj') for name in head.state_dict())
    with pytest.raises(InputError, match='text_dims=None'):
        head((noise(1, 16, *GRID),), TextFeatures(noise(1, 2, 16), torch.ones(1, 2, dtype=torch.bool)))
