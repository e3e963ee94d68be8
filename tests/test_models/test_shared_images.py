"""Sentences of one image in a batch: the image is prepared and embedded once, and the masks do not change."""

import pytest
import torch
from mmseg.registry import MODELS
from tiny import (
    ARCH,
    assert_close,
    assert_same_gradients,
    backbone,
    batch,
    decode_head,
    gradients,
    segmentor,
    text_encoder,
)

TEXTS = ['the red box', 'cat', 'big blue dog', 'cat', 'the cat left of the box']
IMAGES = [0, 0, 0, 1, 1]
NO_TEXT = dict(type='SAMViT', arch=ARCH, img_size=32, patch_size=8, out_channels=16, window_size=3)
FOREIGN = dict(
    type='ResNet',
    depth=18,
    base_channels=8,
    num_stages=2,
    strides=(1, 1),
    dilations=(1, 1),
    out_indices=(1,),
    norm_cfg=dict(type='BN'),
)


@MODELS.register_module()
class TextOnly(torch.nn.Module):
    """A backbone that takes text and does not know of shared images."""

    def __init__(self, inner: dict) -> None:
        super().__init__()
        self.inner = MODELS.build(inner)

    def forward(self, x, text=None):
        return self.inner(x, text)


def data() -> dict:
    """Five sentences on two pictures of different sizes."""
    made = batch([((32, 32), (24, 32))[image] for image in IMAGES], TEXTS)
    pictures = batch([(32, 32), (24, 32)])['inputs']
    # As from another process with pinned memory: equal images, but not the same object.
    return dict(made, inputs=[pictures[image].clone() for image in IMAGES])


def alone(index: int) -> dict:
    return {key: values[index : index + 1] for key, values in data().items()}


def predict(model, batch_of: dict) -> list:
    with torch.no_grad():
        return model.test_step(batch_of)


def build(kind: str):
    if kind == 'ResNet':
        return segmentor(backbone=FOREIGN, decode_head=decode_head(in_channels=16)).eval()
    if kind == 'no text':
        return segmentor(backbone=NO_TEXT).eval()
    instruction = dict(type=kind, text_dims=16) if kind.endswith('Instruction') else None
    encoder = backbone(instruction=instruction)
    return segmentor(backbone=dict(type='TextOnly', inner=encoder) if kind == 'text only' else encoder).eval()


def images_seen(model, part: str, step) -> list[int]:
    """Sizes of the batches that enter a part."""
    seen = []
    handle = model.get_submodule(part).register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    step()
    handle.remove()
    return seen


@pytest.mark.parametrize(
    'kind, embedded, encoded',
    [
        ('LayerWiseInstruction', 2, 5),
        ('EndToEndInstruction', 2, 5),
        ('default', 2, 2),
        ('no text', 2, 2),
        ('text only', 5, 5),
        ('ResNet', 2, 2),
    ],
)
def test_masks_equal_those_of_single_pairs(kind, embedded, encoded):
    model = build(kind)
    parts = dict.fromkeys(['ResNet'], ('conv1', 'layer2')).get(kind, ('patch_embed', 'blocks.2'))
    prefix = 'backbone.inner.' if kind == 'text only' else 'backbone.'
    assert images_seen(model, prefix + parts[0], lambda: predict(model, data())) == [embedded]
    together = predict(model, data())
    last = images_seen(model, prefix + parts[1], lambda: predict(model, data()))
    assert last == [encoded]
    for index, result in enumerate(together):
        (expected,) = predict(model, alone(index))
        assert torch.equal(result.pred_sem_seg.data, expected.pred_sem_seg.data)
        assert_close(result.seg_logits.data, expected.seg_logits.data, 1e-5)
        assert result.metainfo['text'] == TEXTS[index]


def test_shared_and_unshared_batches_are_bit_equal():
    model = build('LayerWiseInstruction')
    shared = predict(model, data())
    plain = model.data_preprocessor(data(), False)
    for sample in plain['data_samples']:
        del sample.unique_image_index
    with torch.no_grad():
        apart = model(**plain, mode='predict')
    for result, expected in zip(shared, apart):
        assert torch.equal(result.seg_logits.data, expected.seg_logits.data)


def test_preprocessing_marks_equal_images():
    processor = segmentor().data_preprocessor
    result = processor(data(), training=False)
    numbers = [sample.unique_image_index for sample in result['data_samples']]
    assert [sorted(set(numbers)).index(number) for number in numbers] == IMAGES
    assert result['inputs'].shape[0] == 5
    for index in range(5):
        single = processor(alone(index), training=False)
        assert torch.equal(result['inputs'][index], single['inputs'][0])
        assert result['data_samples'][index].padding_size == single['data_samples'][0].padding_size


def test_batches_may_be_joined_after_their_preprocessing():
    """Each with its own image, and no two with the same number of it."""
    model = build('LayerWiseInstruction')
    apart = [model.data_preprocessor(alone(index), False) for index in (0, 3)]
    joined = dict(
        inputs=torch.cat([one['inputs'] for one in apart]), data_samples=[one['data_samples'][0] for one in apart]
    )
    with torch.no_grad():
        results = model(**joined, mode='predict')
    for result, index in zip(results, (0, 3)):
        (expected,) = predict(model, alone(index))
        assert_close(result.seg_logits.data, expected.seg_logits.data, 1e-5)


def test_pictures_that_differ_in_a_pixel_are_not_shared():
    made = data()
    made['inputs'][1][0, 0, 0] ^= 1
    numbers = [sample.unique_image_index for sample in segmentor().data_preprocessor(made)['data_samples']]
    assert numbers[3] == numbers[4] and len(set(numbers)) == 4


def test_nothing_is_shared_in_training():
    """Equal pictures may belong to different references, and their masks are padded separately."""
    model = build('LayerWiseInstruction').train()
    made = model.data_preprocessor(data(), training=True)
    assert len({sample.unique_image_index for sample in made['data_samples']}) == 5
    assert images_seen(model, 'backbone.patch_embed', lambda: model(**made, mode='loss')) == [5]


@pytest.mark.parametrize('frozen', [False, True], ids=['trained', 'frozen'])
@pytest.mark.parametrize(
    'kind, start',
    [('LayerWiseInstruction', 0), ('LayerWiseInstruction', 2), ('EndToEndInstruction', 2), ('default', 0)],
)
def test_a_step_with_shared_images_has_the_gradients_of_separate_items(kind, start, frozen):
    """Of the whole model, with sentences that `shares_image` marks as `sentences_per_image` does."""
    instruction = dict(type=kind, text_dims=16, dropout=0.0, start=start) if kind != 'default' else None
    still = text_encoder()['model'] | dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = segmentor(
        backbone=backbone(instruction=instruction, frozen=frozen), text_encoder=text_encoder(model=still, frozen=frozen)
    ).train()
    found = []
    for shared in (True, False):
        made = data()
        for i, sample in enumerate(made['data_samples']):
            sample.set_metainfo(dict(shares_image=shared and i not in (0, 3)))
        made = model.data_preprocessor(made, training=True)
        seen = images_seen(
            model, 'backbone.blocks.1', lambda made=made: model.parse_losses(model(**made, mode='loss'))[0].backward()
        )
        assert seen == [2 if shared and (start or instruction is None) else 5]
        found.append({name: gradient.clone() for name, gradient in gradients(model).items()})
        model.zero_grad()
    assert_same_gradients(*found)
    moving = {name.split('.')[0] for name, gradient in found[1].items() if gradient.any()}
    parts = {'decode_head', *['backbone'] * (not frozen or instruction is not None), *['text_encoder'] * (not frozen)}
    assert moving == parts


def test_points_and_boxes_stay_with_their_sentence():
    model = build('LayerWiseInstruction')
    together, single = data(), alone(1)
    for sample, box in zip(
        together['data_samples'], [(2, 2, 9, 9), (8, 8, 30, 20), (0, 0, 5, 5), (1, 1, 4, 4), (3, 3, 8, 8)]
    ):
        sample.set_metainfo(dict(box=torch.tensor(box, dtype=torch.float32)))
    single['data_samples'][0].set_metainfo(dict(box=torch.tensor([8.0, 8.0, 30.0, 20.0])))
    (expected,) = predict(model, single)
    assert_close(predict(model, together)[1].seg_logits.data, expected.seg_logits.data, 1e-5)
