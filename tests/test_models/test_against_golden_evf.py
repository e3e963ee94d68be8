"""Comparison with tensors that the released EVF-SAM modules computed at small size, with their own weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.structures import PixelData
from mmseg.registry import MODELS, TRANSFORMS
from safetensors import safe_open
from tiny import assert_close
from torch import Tensor, nn

from dit_sam.models.text_encoders.beit3 import BEiT3
from dit_sam.models.weights import EVF_SAM
from dit_sam.models.weights.conversion import build_on_meta
from dit_sam.structures import TextFeatures

GOLDEN = Path(__file__).parents[2] / '..' / 'shared' / 'golden_evf'


def files(kind: str) -> list:
    """Test parameters: the files of a kind, or one that is skipped."""
    found = sorted(path for path in GOLDEN.glob(f'*{kind}*.safetensors'))
    skipped = pytest.param(None, marks=pytest.mark.skip(reason='the golden tensors are not there'))
    return [pytest.param(path, id=path.stem) for path in found] or [skipped]


def read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """Hyper-parameters and tensors of a file."""
    with safe_open(path, 'pt') as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def assert_gradients(model: nn.Module, norms: dict[str, Tensor]) -> None:
    """The norms of the gradients are those of the released modules, and no other weight has one."""
    ours = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    for name, norm in norms.items():
        norm = norm.item()
        found = ours.pop(name).norm().item() if name in ours else 0.0
        assert found == pytest.approx(norm, rel=1e-3, abs=1e-6), name
    assert not ours


def beit3_arch(sizes: dict, prefix: str = '') -> dict[str, int]:
    names = dict(
        embed_dims='encoder_embed_dim',
        depth='encoder_layers',
        num_heads='encoder_attention_heads',
        hidden_dims='encoder_ffn_embed_dim',
    )
    return {ours: int(sizes[prefix + theirs]) for ours, theirs in names.items()}


@pytest.mark.parametrize('path', files('beit3'))
def test_beit3_equals_the_released_module(path):
    sizes, golden = read(path)
    model = BEiT3(
        **beit3_arch(sizes),
        img_size=int(sizes['image_size']),
        patch_size=int(sizes['patch_size']),
        vocab_size=int(sizes['vocab_size']),
        max_positions=int(sizes['max_source_positions']),
    ).eval()
    model.load_state_dict(under('state.beit3.', golden))

    images, ids, mask = golden['input.image'], golden['input.token_ids'], ~golden['input.text_padding_position']
    hidden = [tokens for key, tokens in sorted(under('output.hidden.masked.', golden).items())]
    inputs: list[Tensor] = []
    for layer in model.encoder.layers:
        layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    masked = model(images, ids, mask)
    for ours, theirs in zip(inputs, hidden):
        assert_close(ours, theirs)
    assert_close(masked, golden['output.encoder_out.masked'])

    (masked[:, 0] * golden['input.cotangent']).sum().backward()
    assert_gradients(model, under('gradnorm.beit3.', golden))

    with torch.no_grad():
        assert_close(model(images, ids), golden['output.encoder_out.unmasked'])
        assert_close(model(images), golden['output.encoder_out.image_only'])
        assert_close(model(None, ids, mask), golden['output.encoder_out.text_only_masked'])
        for i, theirs in under('output.encoder_out.single.', golden).items():
            sentence = ids[int(i)][mask[int(i)]][None]
            assert_close(model(images[int(i)][None], sentence), theirs)


def build(sizes: dict) -> nn.Module:
    """The model of a golden file."""
    side = int(sizes['sam.image_size'])
    cfg = dict(
        type='ReferringSegmentor',
        data_preprocessor=dict(type='ReferringDataPreProcessor', size=(side, side), place='corner', pad_masks=False),
        text_encoder=text_encoder_of(sizes),
        **sam_of(sizes),
    )
    return MODELS.build(cfg).eval()


def text_encoder_of(sizes: dict) -> dict:
    return dict(
        type='BEiT3TextEncoder',
        arch=beit3_arch(sizes, 'beit3.'),
        img_size=int(sizes['beit3.img_size']),
        patch_size=int(sizes['beit3.patch_size']),
        vocab_size=int(sizes['beit3.vocab_size']),
        max_positions=int(sizes['beit3.max_source_positions']),
    )


def sam_of(sizes: dict) -> dict:
    """Image encoder and mask decoder."""
    out = int(sizes['out_dim'])
    backbone = dict(
        type='DITViT',
        arch=dict(
            embed_dims=int(sizes['sam.embed_dim']),
            depth=int(sizes['sam.depth']),
            num_heads=int(sizes['sam.num_heads']),
            global_attn_indexes=json.loads(sizes['sam.global_attn_indexes']),
        ),
        img_size=int(sizes['sam.image_size']),
        patch_size=int(sizes['sam.patch_size']),
        out_channels=out,
        window_size=int(sizes['sam.window_size']),
        mlp_ratio=float(sizes['sam.mlp_ratio']),
        frozen=True,
    )
    head = dict(
        type='EVFSAMHead',
        in_channels=out,
        text_dims=int(sizes['hidden_size']),
        depth=int(sizes['sam.decoder_depth']),
        num_heads=int(sizes['sam.decoder_num_heads']),
        mlp_dim=int(sizes['sam.decoder_mlp_dim']),
        iou_head_hidden_dim=int(sizes['sam.iou_head_hidden_dim']),
    )
    return dict(backbone=backbone, decode_head=head)


def set_tokens(model: nn.Module, monkeypatch: pytest.MonkeyPatch, ids: Tensor, mask: Tensor) -> None:
    """Let the text encoder, whose tokenizer the file does not have, read these tokens."""
    monkeypatch.setattr(model.text_encoder, '_tokenize', lambda *_: (ids, mask.long()))


def pipeline(sizes: dict) -> Compose:
    side = int(sizes['sam.image_size'])
    return Compose(
        [
            TRANSFORMS.build(dict(type='AddTextEncoderImage', size=int(sizes['beit3.img_size']))),
            TRANSFORMS.build(dict(type='Resize', scale=(side, side), keep_ratio=True, backend='pillow')),
            TRANSFORMS.build(dict(type='PackReferringInputs')),
        ]
    )


def batch(sizes: dict, golden: dict[str, Tensor]) -> tuple[list[int], dict]:
    """The picture of each sentence, and the batch as the data loader collates it."""
    offset = json.loads(sizes['offset'])
    pictures = [i for i, (first, last) in enumerate(zip(offset, offset[1:])) for _ in range(last - first)]
    data: dict = dict(inputs=[], data_samples=[])
    for sentence, i in enumerate(pictures):
        image = golden[f'input.picture.{i}'].numpy()[..., ::-1]
        size = image.shape[:2]
        item = dict(img=np.ascontiguousarray(image), img_shape=size, ori_shape=size, text='unused', img_path=str(i))
        packed = pipeline(sizes)(item)
        mask = golden[f'input.masks.{i}'][sentence - offset[i]].to(torch.uint8)[None]
        packed['data_samples'].gt_sem_seg = PixelData(data=mask)
        data['inputs'].append(packed['inputs'])
        data['data_samples'].append(packed['data_samples'])
    return pictures, data


@pytest.mark.parametrize('path', files('evf_sam'))
def test_preprocessing_equals_the_released_one_to_the_last_bit(path):
    sizes, golden = read(path)
    pictures, data = batch(sizes, golden)
    for i, image, sample in zip(pictures, data['inputs'], data['data_samples']):
        assert torch.equal(image.flip(0).permute(1, 2, 0), golden[f'input.resized.{i}'])
        assert torch.equal(sample.text_encoder_image.data, golden['input.images_evf'][i])
    prepared = build(sizes).data_preprocessor(data)
    assert torch.equal(prepared['inputs'], golden['input.images'][pictures])


class Released:
    """A golden file, the model with its weights, and its batch; sentence s is about picture pictures[s].

    Args:
        path: The file.
        monkeypatch: Gives the text encoder its tokens.
        training: Whether the batch is prepared for training.
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, training: bool = False) -> None:
        sizes, self.golden = read(path)
        self.model = build(sizes)
        self.model.load_state_dict(EVF_SAM.to_ours(under('state.', self.golden)))
        self.ids, self.mask = self.golden['input.input_ids'], self.golden['input.attention_masks']
        set_tokens(self.model, monkeypatch, self.ids, self.mask)
        self.pictures, data = batch(sizes, self.golden)
        prepared = self.model.data_preprocessor(data, training=training)
        self.inputs, self.samples = prepared['inputs'], prepared['data_samples']

    def maps(self) -> Tensor:
        return self.model.backbone(self.inputs)[0]

    def read_tokens(self, rows: list[int], ids: Tensor, mask: Tensor) -> TextFeatures:
        """Text features of the sentences `rows` with these tokens."""
        images = torch.stack([self.samples[row].text_encoder_image.data for row in rows])
        return self.model.text_encoder.encode_tokens(ids, mask, images)


every_file = pytest.mark.parametrize('path', files('evf_sam'))


@every_file
def test_evf_sam_equals_the_released_model(path, monkeypatch):
    released = Released(path, monkeypatch)
    model, head, samples = released.model, released.model.decode_head, released.samples
    forward, order = under('output.forward.', released.golden), list(dict.fromkeys(released.pictures))
    maps, text = released.maps(), model.encode_text(samples)
    assert_close(maps, forward['image_embedding'][released.pictures])
    words = [0, *range(-released.ids.shape[1], 0)]
    assert_close(torch.cat([text.pooled[:, None], text.tokens], 1), forward['encoder_out'][:, words])
    assert_close(head.text_prompt(text)[0], forward['feature'])
    assert_close(head.prompt_encoder.grid_code(maps.shape[2:])[None], released.golden['output.dense_pe'])

    logits, tokens = head.decode((maps,), text)
    assert_close(logits, torch.cat([forward[f'low_res_logits.{i}'] for i in order]))
    predicted_iou = head.mask_decoder.iou_prediction_head(tokens[:, 0])[:, :1]
    assert_close(predicted_iou, torch.cat([forward[f'iou_prediction.{i}'] for i in order]))

    # Masks at the original size.
    final = [logits for i in order for logits in forward[f'logits.{i}']]
    with torch.no_grad():
        for sample, theirs in zip(model.predict(released.inputs, samples), final):
            assert_close(sample.seg_logits.data[0], theirs.sigmoid())
            assert torch.equal(sample.pred_sem_seg.data[0].bool(), theirs > 0)


@every_file
def test_sentences_one_by_one_equal_the_released_inference(path, monkeypatch):
    """Without padding."""
    released = Released(path, monkeypatch)
    head, maps = released.model.decode_head, released.maps()
    for i, length in enumerate(released.mask.sum(1)):
        single, one = under(f'output.inference.sentence.{i}.', released.golden), slice(i, i + 1)
        with torch.no_grad():
            text = released.read_tokens([i], released.ids[one, :length], released.mask[one, :length])
            low, _ = head.decode((maps[one],), text)
        assert_close(head.text_prompt(text)[0][0], single['feature'].reshape(1, -1))
        assert_close(low.flatten(), single['low_res_logits'].flatten())


@every_file
def test_several_sentences_equal_the_released_inference(path, monkeypatch):
    """Which does not mask their padding."""
    released = Released(path, monkeypatch)
    maps = released.maps()
    for i in dict.fromkeys(released.pictures):
        group = [s for s, picture in enumerate(released.pictures) if picture == i]
        unmasked = under(f'output.inference.padded_unmasked.{i}.', released.golden)
        with torch.no_grad():
            text = released.read_tokens(group, released.ids[group], torch.ones_like(released.ids[group]))
            low, _ = released.model.decode_head.decode((maps[group],), text)
        assert_close(low.flatten(), unmasked['low_res_logits'].flatten())


@every_file
def test_the_best_of_masks_1_to_3_equals_the_released_inference(path, monkeypatch):
    released = Released(path, monkeypatch)
    model, head, golden = released.model, released.model.decode_head, released.golden
    maps, text = released.maps(), model.encode_text(released.samples)
    for key in [key for key in golden if key.startswith('output.inference.multimask.') and key.endswith('.logits')]:
        multimask, i = under(key.removesuffix('logits'), golden), int(key.split('.')[-2])
        one = slice(i, i + 1)
        last = TextFeatures(text.tokens[one], text.mask[one], text.pooled[one])
        low, tokens = head.decode((maps[one],), last, masks=slice(1, None))
        assert_close(low, multimask['low_res_logits'])
        iou = head.mask_decoder.iou_prediction_head(tokens[:, 0])[:, 1:]
        assert_close(iou, multimask['iou_prediction'])
        head.multimask = True
        set_tokens(model, monkeypatch, released.ids[one], released.mask[one])
        with torch.no_grad():
            (sample,) = model.predict(released.inputs[one], released.samples[one])
        assert_close(sample.seg_logits.data, multimask['logits'].sigmoid())


@every_file
def test_losses_and_gradients_equal_those_of_the_released_model(path, monkeypatch):
    released = Released(path, monkeypatch, training=True)
    losses, golden = released.model.loss(released.inputs, released.samples), released.golden
    assert_close(losses['decode.loss_bce'], golden['output.train.mask_bce_loss'].squeeze())
    assert_close(losses['decode.loss_dice'], golden['output.train.mask_dice_loss'].squeeze())
    total = losses['decode.loss_bce'] + losses['decode.loss_dice']
    assert_close(total, golden['output.train.loss'].squeeze())
    total.backward()
    assert_gradients(released.model, EVF_SAM.to_ours(under('gradnorm.', golden)))


@pytest.mark.parametrize(('names', 'arch'), [('names_evf_sam', 'large'), ('names_evf_sam_beit3_base', 'base')])
def test_names_and_shapes_are_those_of_the_released_checkpoint(names, arch):
    path = GOLDEN / f'{names}.json'
    if not path.is_file():
        pytest.skip(f'the names are not at {GOLDEN.resolve()}')
    text_encoder = dict(type='BEiT3TextEncoder', arch=arch)
    width = 1024 if arch == 'large' else 768
    model = build_on_meta(
        dict(
            type='ReferringSegmentor',
            text_encoder=text_encoder,
            backbone=dict(type='DITViT', arch='huge'),
            decode_head=dict(type='EVFSAMHead', text_dims=width),
        )
    )
    ours = {name: list(value.shape) for name, value in EVF_SAM.to_theirs(model.state_dict()).items()}
    assert ours == json.loads(path.read_text())
