"""Text encoder, image encoder and mask decoder together."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from tiny import assert_close, backbone, batch, decode_head, noise, sample, segmentor, text_encoder

from dit_sam.errors import InputError

SCHEMES = [None, 'LayerWiseInstruction', 'EndToEndInstruction']
every_scheme = pytest.mark.parametrize('scheme', SCHEMES, ids=['default', 'L-DIT', 'E-DIT'])


def build(scheme='LayerWiseInstruction', **parts):
    instruction = scheme and dict(type=scheme, text_dims=16)
    return segmentor(backbone=backbone(instruction=instruction), **parts)


def losses_of(model, data) -> dict:
    return model(**model.data_preprocessor(data, training=True), mode='loss')


@every_scheme
def test_only_frozen_weights_get_no_gradient(scheme):
    """What DistributedDataParallel needs, at the first step with P_i = 0 as well as later."""
    for seed in (None, 0):
        model = build(scheme, seed=seed).train()
        losses_of(model, batch())['decode.loss_bce'].backward()
        without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
        assert without == {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert all(name.startswith('decode_head.') for name in without)


def test_a_size_of_torch_is_no_tile():
    """mmseg marks tiles by a `torch.Size`; a padded image may have one too, as the shape of its tensor."""
    model, results = build().eval(), []
    for kind in (tuple, torch.Size):
        data = batch([(24, 32), (32, 32)])
        for one in data['data_samples']:
            one.set_metainfo(dict(img_shape=kind(one.img_shape)))
        with torch.no_grad():
            results.append(model.test_step(data)[0].seg_logits.data)
    assert torch.equal(*results)


@every_scheme
def test_one_picture_is_learned(scheme):
    """A few steps of Adam on one batch bring the loss down."""
    model = build(scheme).train()
    optim_wrapper = OptimWrapper(torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3))
    losses = [model.train_step(batch(), optim_wrapper)['loss'].item() for _ in range(8)]
    assert losses[-1] < losses[0]


@every_scheme
def test_forward_modes_agree(scheme):
    """`tensor` returns the head's logits, from which `loss` and `predict` are computed."""
    model = build(scheme).eval()
    data = model.data_preprocessor(batch([(32, 32)] * 2), training=True)
    logits = model(**data, mode='tensor')
    assert logits.shape == (2, 1, 16, 16)
    full = torch.nn.functional.interpolate(logits, (32, 32), mode='bilinear', align_corners=True)
    truth = torch.stack([data_sample.gt_sem_seg.data for data_sample in data['data_samples']]).float()
    loss = model(**data, mode='loss')['decode.loss_bce']
    assert_close(loss, torch.nn.functional.binary_cross_entropy_with_logits(full, truth), 1e-6)
    for probabilities, result in zip(full.sigmoid(), model(**data, mode='predict')):
        assert_close(result.seg_logits.data, probabilities, 1e-6)
        assert torch.equal(result.pred_sem_seg.data, (probabilities > 0.35).float())


@every_scheme
def test_another_sentence_gives_another_mask(scheme):
    model = build(scheme).eval()
    logits = [model(**model.data_preprocessor(batch([(32, 32)], [text]))) for text in ('cat', 'dog')]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_pairs_in_a_batch_are_independent():
    model = build('EndToEndInstruction').eval()
    together = model(**model.data_preprocessor(batch()))
    data = batch()
    for i in range(2):
        alone = {key: values[i : i + 1] for key, values in data.items()}
        assert_close(together[i : i + 1], model(**model.data_preprocessor(alone)))


def test_predictions_come_back_at_the_original_size_without_padding():
    """Pictures of 16 × 32 and 32 × 8 doubled by the pipeline and centered in 64 × 64: 16 rows above, 24 columns left.

    The head says 1 in all padding, and in a rectangle each that halves to whole original pixels.
    """
    model = build(data_preprocessor=dict(type='ReferringDataPreProcessor', size=(64, 64)))
    known = torch.full((2, 1, 64, 64), 9.0)
    known[0, 0, 16:48] = -9.0
    known[0, 0, 16 + 8 : 16 + 16, 16:32] = 9.0  # rows 4-7, columns 8-15
    known[1, 0, :, 24:40] = -9.0
    known[1, 0, 60:, 24 + 2 : 24 + 6] = 9.0  # rows 30-31, columns 1-2
    model.decode_head.forward = lambda inputs, text=None, prompts=None: known
    data = batch([(32, 64), (64, 16)])
    data['data_samples'] = [sample((32, 64), ori_shape=(16, 32)), sample((64, 16), ori_shape=(32, 8))]

    expected = [torch.zeros(1, 16, 32), torch.zeros(1, 32, 8)]
    expected[0][0, 4:8, 8:16] = 1
    expected[1][0, 30:32, 1:3] = 1
    results = model.test_step(data)
    for result, mask in zip(results, expected):
        assert torch.equal(result.pred_sem_seg.data, mask)
        assert result.seg_logits.data.shape == mask.shape
        assert result.metainfo['text'] == 'the red box'
    assert results[0].gt_sem_seg.data.shape == (1, 32, 64)  # as the pipeline gave it


@pytest.mark.parametrize('channels', [1, 2])
def test_probabilities_at_the_input_size_can_be_kept(channels):
    """Pictures of 16 × 32 and 32 × 8 doubled by the pipeline and centered in 64 × 64; padding is cut off.

    Two channels, background and object, are what mmseg's heads give.
    """
    head = (
        {}
        if channels == 1
        else dict(decode_head=dict(type='FCNHead', in_channels=16, channels=8, num_classes=2, num_convs=1))
    )
    size = dict(type='ReferringDataPreProcessor', size=(64, 64))
    model = build(data_preprocessor=size, test_cfg=dict(keep_input_probabilities=True), **head).eval()
    known = noise(2, channels, 64, 64)
    model.decode_head.predict = lambda inputs, metas, test_cfg, **prompted: known
    probabilities = known.sigmoid() if channels == 1 else known.softmax(1)[:, 1:]
    samples = [sample((32, 64), ori_shape=(16, 32)), sample((64, 16), ori_shape=(32, 8))]
    data = dict(batch([(32, 64), (64, 16)]), data_samples=samples)
    results = model.test_step(data)
    for result, expected in zip(results, (probabilities[0, :, 16:48], probabilities[1, :, :, 24:40])):
        assert_close(result.input_probabilities.data, expected, 1e-6)
        assert result.pred_sem_seg.data.shape == (1, *result.ori_shape)
        assert result.metainfo['text'] == 'the red box'

    model.test_cfg = None
    data['data_samples'] = [sample((32, 64), ori_shape=(16, 32)), sample((64, 16), ori_shape=(32, 8))]
    for result, without in zip(results, model.test_step(data)):
        assert torch.equal(result.pred_sem_seg.data, without.pred_sem_seg.data)
        assert 'input_probabilities' not in without


@pytest.mark.parametrize('threshold,predicted', [(0.35, [0, 1, 1]), (0.5, [0, 0, 1])])
def test_the_threshold_is_that_of_the_head(threshold, predicted):
    model = build(decode_head=decode_head(threshold=threshold), data_preprocessor=None)
    known = torch.tensor([0.3, 0.4, 0.6]).logit().view(1, 1, 1, 3)
    model.decode_head.forward = lambda inputs, text=None, prompts=None: known
    (result,) = model(torch.zeros(1, 3, 1, 3), [sample((1, 3))], mode='predict')
    assert result.pred_sem_seg.data.flatten().tolist() == predicted


def test_without_data_samples_it_runs_without_text():
    assert build()(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 16, 16)


@pytest.mark.parametrize('mode', ['loss', 'predict', 'tensor'])
def test_a_data_sample_without_a_sentence_is_an_error(mode):
    model = build().eval()
    data = dict(inputs=torch.zeros(2, 3, 32, 32), data_samples=[sample((32, 32)), sample((32, 32), text=None)])
    with pytest.raises(InputError, match="data sample 1 has no 'text' in its metainfo.*PackReferringInputs"):
        model(**data, mode=mode)


@every_scheme
def test_weights_survive_saving(scheme, tmp_path):
    model, other = build(scheme).eval(), build(scheme, seed=1).eval()
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    other.load_state_dict(torch.load(tmp_path / 'weights.pth', weights_only=True), strict=True)
    data = model.data_preprocessor(batch())
    assert torch.equal(model(**data), other(**data))


def test_bfloat16_autocast_trains():
    model = build().train()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = losses_of(model, batch())['decode.loss_bce']
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    'part',
    [
        backbone(),
        backbone(type='SAMViT', instruction=None),
        text_encoder(),
        dict(backbone(type='StandaloneDITViT'), text_encoder=text_encoder(), text='cat'),
    ],
    ids=lambda part: part['type'],
)
def test_a_part_made_in_inference_mode_trains(part):
    part = {key: value for key, value in part.items() if value is not None}
    with torch.inference_mode():
        made = MODELS.build(part)
    assert not any(value.is_inference() for value in (*made.parameters(), *made.buffers()))


def test_a_model_made_in_inference_mode_works_as_usual():
    with torch.inference_mode():
        model = build().eval()
        model.load_state_dict(build(seed=1).state_dict())
        before = model.test_step(batch())[0].seg_logits.data
        model.load_state_dict(build(seed=2).state_dict())
        after = model.test_step(batch())[0].seg_logits.data
    assert not torch.equal(before, after)
    model.train_step(batch(), OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)))
    with torch.no_grad():
        assert not torch.equal(model.eval().test_step(batch())[0].seg_logits.data, after)
