"""SAM's mask decoder as a decode head, against segment_anything's."""

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from tiny import assert_close, assert_same_gradients, decode_head, gradients, noise, randomize, sample
from torch import nn

from dit_sam.compat import import_sam_modeling
from dit_sam.errors import InputError
from dit_sam.models import SAMHead
from dit_sam.models.losses import sentence_contrast
from dit_sam.structures import TextFeatures

GRID = (5, 7)


def build(**kwargs) -> SAMHead:
    return randomize(MODELS.build(decode_head(**kwargs)))


def sentences(batch=3) -> TextFeatures:
    """4, 1 and 3 real tokens."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
    return TextFeatures(noise(batch, 4, 16, seed=5), mask[:batch])


def segment_anything_like(head: SAMHead, depth: int) -> nn.ModuleDict:
    """segment_anything's parts with the head's weights, loaded by name without missing or extra ones."""
    sam = import_sam_modeling()
    parts = nn.ModuleDict(
        dict(
            prompt_encoder=sam.PromptEncoder(16, GRID, (80, 112), mask_in_chans=16),
            mask_decoder=sam.MaskDecoder(
                transformer_dim=16, transformer=sam.TwoWayTransformer(depth, 16, 2, 32), iou_head_hidden_dim=16
            ),
        )
    )
    parts.prompt_encoder.load_state_dict(head.prompt_encoder.state_dict(), strict=True)
    parts.mask_decoder.load_state_dict(head.mask_decoder.state_dict(), strict=True)
    return parts


def one_by_one(sam: nn.ModuleDict, head: SAMHead, image, text: TextFeatures):
    """segment_anything's single mask for each image and the real tokens of its sentence."""
    masks = []
    for i in range(len(image)):
        sparse = head.text_proj(text.tokens[i : i + 1, text.mask[i]])
        _, dense = sam.prompt_encoder(points=None, boxes=None, masks=None)
        mask, _ = sam.mask_decoder(
            image[i : i + 1], sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False
        )
        masks.append(mask)
    return torch.cat(masks)


@pytest.mark.parametrize('depth', [2, 4, 6])
def test_a_batch_of_pairs_equals_segment_anything_pair_by_pair(depth, kernel):
    head, text = build(depth=depth), sentences()
    sam = segment_anything_like(head, depth)
    ours, theirs = (noise(3, 16, *GRID).requires_grad_() for _ in range(2))
    actual, expected = head((ours,), text), one_by_one(sam, head, theirs, text)
    assert actual.shape == (3, 1, 20, 28)
    assert_close(actual, expected)

    weights = noise(*actual.shape, seed=1)
    (expected * weights).sum().backward()
    head.zero_grad()
    (actual * weights).sum().backward()
    assert_close(ours.grad, theirs.grad)
    assert_same_gradients(gradients(head.mask_decoder), gradients(sam.mask_decoder))
    assert_same_gradients(gradients(head.prompt_encoder), gradients(sam.prompt_encoder))


def test_without_text_it_equals_the_decoder_without_a_prompt():
    head, image = build(), noise(2, 16, *GRID)
    sam = segment_anything_like(head, 2)
    nothing = TextFeatures(torch.zeros(2, 0, 16), torch.zeros(2, 0, dtype=torch.bool))
    assert_close(head((image,)), one_by_one(sam, head, image, nothing))


def test_values_of_padding_tokens_do_not_matter():
    head, image, text = build(), noise(3, 16, *GRID), sentences()
    other = TextFeatures(torch.where(text.mask[..., None], text.tokens, 100.0), text.mask)
    assert_close(head((image,), text), head((image,), other), 1e-6)


def test_the_map_at_in_index_is_used():
    head, maps = build(in_index=0), (noise(1, 16, *GRID), noise(1, 16, 2, 2))
    assert torch.equal(head(maps, sentences(1)), head(maps[:1], sentences(1)))


def test_only_frozen_parameters_have_no_gradient():
    """What DistributedDataParallel needs."""
    head = build()
    head((noise(3, 16, *GRID),), sentences()).sum().backward()
    assert {name for name, parameter in head.named_parameters() if parameter.grad is None} == {
        name for name, parameter in head.named_parameters() if not parameter.requires_grad
    }
    assert not head.mask_decoder.iou_prediction_head.layers[0].weight.requires_grad
    assert head.mask_decoder.iou_token.weight.requires_grad


def test_loss_is_cross_entropy_at_full_resolution():
    """Logits upsampled with aligned corners by hand: 2 × 2 to 3 × 3 halves every distance."""
    low = torch.tensor([[[[1.0, 3.0], [5.0, -3.0]]]])
    full = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.5, 0.0], [5.0, 1.0, -3.0]])
    data = sample((3, 3))
    truth = data.gt_sem_seg.data[0].float()
    p = full.sigmoid()
    expected = -(truth * p.log() + (1 - truth) * (1 - p).log()).sum() / 9
    assert_close(build().loss_by_feat(low, [data])['loss_bce'], expected, 1e-6)


def test_loss_from_features_equals_loss_from_logits():
    head, image, text = build(), noise(2, 16, *GRID), sentences(2)
    samples = [sample((40, 56), seed=i) for i in range(2)]
    truth = torch.stack([data.gt_sem_seg.data for data in samples]).float()
    logits = F.interpolate(head((image,), text), (40, 56), mode='bilinear', align_corners=True)
    expected = F.binary_cross_entropy_with_logits(logits, truth)
    losses = head.loss((image,), samples, text=text)
    assert set(losses) == {'loss_bce', 'mean_iou'}
    assert_close(losses['loss_bce'], expected, 1e-6)


def test_mean_iou_is_the_mean_over_images_in_percent():
    """3 pixels of 4 predicted, 2 of them among 3 true; nothing predicted, nothing true; all right."""
    logits = torch.tensor([[[9.0, 9.0], [9.0, -9.0]], [[-9.0, -9.0], [-9.0, -9.0]], [[9.0, -9.0], [-9.0, 9.0]]])[
        :, None
    ]
    truths = torch.tensor([[[1, 1], [0, 1]], [[0, 0], [0, 0]], [[1, 0], [0, 1]]])
    samples = [sample((2, 2)) for _ in truths]
    for data, truth in zip(samples, truths):
        data.gt_sem_seg.data = truth[None]
    mean_iou = build().loss_by_feat(logits, samples)['mean_iou']
    assert mean_iou.item() == pytest.approx((2 / 4 + 1 + 1) / 3 * 100)
    assert not mean_iou.requires_grad


@pytest.mark.parametrize('threshold,predicted', [(0.35, 2), (0.5, 1)])
def test_mean_iou_uses_the_threshold(threshold, predicted):
    """Probabilities 0.2, 0.4, 0.6 with both latter true."""
    data = sample((1, 3))
    data.gt_sem_seg.data = torch.tensor([[[0, 1, 1]]])
    logits = torch.tensor([0.2, 0.4, 0.6]).logit().view(1, 1, 1, 3)
    losses = build(threshold=threshold).loss_by_feat(logits, [data])
    assert losses['mean_iou'].item() == pytest.approx(predicted / 2 * 100)


@pytest.mark.parametrize('kind', ['SAMHead', 'GeneralizedSAMHead', 'EVFSAMHead'])
def test_the_iou_head_learns_the_iou_of_the_mask(kind):
    """By the squared error; gradients reach SAM's IoU head, which is frozen otherwise."""
    pooled = dict(text_dims=16) if kind == 'EVFSAMHead' else {}
    plain = build(type=kind, **pooled)
    assert not any(one.requires_grad for one in plain.mask_decoder.iou_prediction_head.parameters())
    head, image, text = build(type=kind, predict_iou=True, iou_weight=0.5, **pooled), noise(2, 16, *GRID), sentences(2)
    if pooled:
        text.pooled = noise(2, 16, seed=7)
    samples = [sample((40, 56), seed=i) for i in range(2)]
    for data in samples:
        data.set_metainfo(dict(pad_shape=(40, 56), padding_size=(0, 0, 0, 0), mask_is_padded=True))
    losses = head.loss((image,), samples, text=text)
    metas = [dict(pad_shape=(40, 56))] * 2
    masks, predicted = head.predict_with_iou((image,), metas, text=text)
    truth = torch.stack([data.gt_sem_seg.data for data in samples]) == 1
    inside = F.interpolate(head((image,), text), (40, 56), mode='bilinear', align_corners=head.align_corners).sigmoid()
    inside = inside > head.threshold
    ious = (inside & truth).flatten(1).sum(1) / (inside | truth).flatten(1).sum(1)
    assert_close(losses['loss_iou'], 0.5 * ((predicted - ious) ** 2).mean(), 1e-6)
    assert_close(losses['mean_iou'], 100 * ious.mean(), 1e-6)
    losses['loss_iou'].backward()
    assert head.mask_decoder.iou_prediction_head.layers[0].weight.grad.abs().sum() > 0
    assert_close(masks, head.predict((image,), metas, text=text), 0)


@pytest.mark.parametrize('kind', ['SAMHead', 'GeneralizedSAMHead'])
def test_masks_that_were_not_padded_are_refused(kind):
    data = sample((30, 40))
    data.set_metainfo(dict(pad_shape=(40, 56), padding_size=(8, 8, 5, 5), mask_is_padded=False))
    with pytest.raises(InputError, match='compares masks with the padded input'):
        build(type=kind).loss((noise(1, 16, *GRID),), [data], text=sentences(1))


def test_sentences_of_an_image_can_be_negatives():
    """Of the images that the data preprocessor found to be shared."""
    logits, samples = noise(3, 1, 8, 8), [sample((8, 8), seed=i) for i in range(3)]
    for data, image in zip(samples, (0, 0, 1)):
        data.set_metainfo(dict(unique_image_index=image))
    losses = build(negatives_weight=0.5).loss_by_feat(logits, samples)
    labels = torch.stack([data.gt_sem_seg.data[0] for data in samples])
    assert_close(losses['loss_negatives'], 0.5 * sentence_contrast(logits, labels, [0, 0, 1]), 1e-6)
    assert losses['loss_negatives'] > 0
    with pytest.raises(InputError, match='needs to know which sentences share an image'):
        build(negatives_weight=0.5).loss_by_feat(noise(1, 1, 8, 8), [sample((8, 8))])
    with pytest.raises(InputError, match='EVFSAMHead has its losses at the size of each mask'):
        build(type='EVFSAMHead', text_dims=16, negatives_weight=0.5)


def test_a_score_of_another_mask_is_refused():
    with pytest.raises(InputError, match='trains the predicted IoU of mask 0, and multimask=True takes one of the'):
        build(type='EVFSAMHead', text_dims=16, predict_iou=True, multimask=True)


def test_the_best_of_sams_masks_has_the_highest_predicted_iou():
    """The predicted IoUs of masks 0 to 3 are 0, 1, 3 and 2: of the masks 1 to 3 it takes mask 2."""
    head = build(type='EVFSAMHead', text_dims=16, multimask=True)
    last = head.mask_decoder.iou_prediction_head.layers[-1]
    nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([0.0, 1.0, 3.0, 2.0])
    image, text = (noise(2, 16, *GRID),), sentences(2)
    text.pooled = noise(2, 16, seed=6)
    logits, iou = head.best_mask(image, text)
    assert_close(logits, head.decode(image, text, None, slice(2, 3))[0], 1e-6)
    assert iou.tolist() == [3, 3]


def test_losses_of_one_name_are_summed():
    bce = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_name='loss_bce')
    head = build(loss_decode=[bce, dict(bce, loss_weight=2.0), dict(type='BinaryDiceLoss', loss_weight=0.5)])
    logits, data = noise(1, 1, 8, 8), sample((8, 8))
    losses = head.loss_by_feat(logits, [data])
    plain = build().loss_by_feat(logits, [data])
    assert set(losses) == {'loss_bce', 'loss_dice', 'mean_iou'}
    assert_close(losses['loss_bce'], 3 * plain['loss_bce'], 1e-6)


def test_prediction_has_the_size_of_the_padded_input():
    head, image = build(), noise(2, 16, *GRID)
    logits = head.predict((image,), [dict(img_shape=(30, 50), pad_shape=(40, 56))] * 2, text=sentences(2))
    expected = F.interpolate(head((image,), sentences(2)), (40, 56), mode='bilinear', align_corners=True)
    assert_close(logits, expected, 1e-6)


def test_text_of_another_width_says_what_to_set():
    text = TextFeatures(noise(1, 2, 20), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match='width 20, the head expects text_dims=16; set decode_head.text_dims'):
        build()((noise(1, 16, *GRID),), text)
