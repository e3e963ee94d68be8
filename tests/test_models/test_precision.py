"""What stays in float32 under autocast, and how close the rest is to float64."""

import copy

import pytest
import torch
from equations import double
from tiny import assert_close, backbone, batch, decode_head, noise, randomize, segmentor

from dit_sam.compat import import_sam_modeling
from dit_sam.models.instructions.cross_attention import CrossAttentionLayer
from dit_sam.models.layers import InstructedBlock, LayerNorm2d
from dit_sam.models.layers.chunked_cpu import chunked_attention
from dit_sam.models.layers.sdpa_relpos import sdpa_attention
from dit_sam.structures import SpatialPrompts

HALVES = pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=['bfloat16', 'float16'])


def autocast(dtype):
    return torch.autocast('cpu', dtype)


@HALVES
def test_positions_are_encoded_in_float32(dtype):
    encoder = segmentor().decode_head.prompt_encoder
    prompts = SpatialPrompts.collate([torch.tensor([[3.0, 70.0], [200.0, 1.0]])], [None], [None], (96, 256))
    expected_grid, expected = encoder.pe_layer((32, 32)), encoder(prompts)
    with autocast(dtype):
        grid, points = encoder.grid_code((32, 32)), encoder(prompts)
    assert_close(grid, expected_grid, 1e-5)
    assert_close(points, expected, 1e-5)


@HALVES
@pytest.mark.parametrize('kind', ['SAMHead', 'GeneralizedSAMHead'])
def test_logits_are_resized_in_float32(kind, dtype):
    """The decoder's output in 16 bits is rounded there, but nowhere after it."""
    model = segmentor(decode_head=decode_head(type=kind)).eval()
    data = model.data_preprocessor(batch([(32, 32)] * 2), training=True)
    seen = {}
    decode = model.decode_head.decode
    model.decode_head.decode = lambda *args, **prompts: seen.setdefault('out', decode(*args, **prompts))
    metas = [sample.metainfo for sample in data['data_samples']]
    with autocast(dtype), torch.no_grad():
        features = model.extract_feat(data['inputs'], model.encode_text(data['data_samples']))
        text = model.encode_text(data['data_samples'])
        logits = model.decode_head.predict(features, metas, None, text=text)
        losses = model.decode_head.loss(features, data['data_samples'], text=text)
    rounded, _ = seen['out']
    expected = torch.nn.functional.interpolate(rounded.double(), (32, 32), mode='bilinear', align_corners=True)
    assert rounded.dtype == dtype and logits.dtype == torch.float32
    if kind == 'SAMHead':
        assert_close(logits, expected, 1e-6)
    truth = torch.stack([sample.gt_sem_seg.data for sample in data['data_samples']]).double()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(expected, truth)
    assert_close(losses['loss_bce'], bce, 1e-6)


def test_the_no_target_decision_is_made_in_float32():
    """A probability of 0.501, which bfloat16 rounds to 0.5."""
    head = segmentor(decode_head=decode_head(type='GeneralizedSAMHead')).decode_head
    head.no_target_head.forward = lambda tokens: torch.tensor([[0.004]], dtype=torch.bfloat16)
    head.decode = lambda *args: (torch.ones(1, 1, 4, 4), torch.zeros(1, 5, 16))
    assert (head.predict(None, [dict(pad_shape=(4, 4))]) < -9000).all()


@HALVES
def test_tables_are_rounded_last(dtype):
    """A term shared by all keys does not change the softmax, but rounding with it would lose the differences."""
    heads, channels, side = 2, 8, 6
    qkv = noise(1, side, side, 3 * heads * channels).to(dtype)
    tables = [100 + 0.3 * noise(side, side, channels, seed=seed) for seed in (1, 2)]
    centered = [table - table[:, :1] for table in tables]
    q, k, v = qkv.double().view(side * side, 3, heads, channels).permute(1, 2, 0, 3)
    grid = q.view(heads, side, side, channels)
    rows, columns = (torch.einsum(f'mhwc,{axis}kc->mhwk', grid, table.double()) for axis, table in zip('hw', centered))
    bias = rows[..., :, None] + columns[..., None, :]
    expected = ((q @ k.transpose(1, 2)) * channels**-0.5 + bias.flatten(3).flatten(1, 2)).softmax(-1) @ v
    out = sdpa_attention(qkv, None, None, None, *tables, heads, channels**-0.5)
    assert_close(out, expected.transpose(0, 1).reshape(1, side, side, -1), 4 * torch.finfo(dtype).eps)


@HALVES
def test_sdpa_and_chunked_attention_agree(dtype):
    """On a grid of 24 × 24, with text; chunked logits are sums of rounded terms."""
    heads, channels, side = 2, 16, 24
    qkv, tables = (
        noise(1, side, side, 3 * heads * channels).to(dtype),
        [0.2 * noise(side, side, channels, seed=s) for s in (1, 2)],
    )
    text = [noise(1, heads, 5, channels, seed=seed).to(dtype) for seed in (3, 4)]
    mask = torch.tensor([[True, True, True, False, False]])
    exact = chunked_attention(
        qkv.double(), *(t.double() for t in text), mask, *(t.double() for t in tables), heads, channels**-0.5
    )
    for attention, steps in ((sdpa_attention, 2), (chunked_attention, 4)):
        assert_close(attention(qkv, *text, mask, *tables, heads, channels**-0.5), exact, steps * torch.finfo(dtype).eps)


@HALVES
def test_text_tokens_between_blocks_stay_in_float32(dtype):
    """Over six blocks, like the visual tokens: if rounded in each block, text with large values would not change."""
    blocks = [randomize(InstructedBlock(12, 3, 4), seed) for seed in range(6)]
    x, text = noise(1, 4, 4, 12), 40 * noise(1, 3, 12, seed=1)

    def run(blocks, x, text):
        for block in blocks:
            x, text = block(x, text, keep_text=True)
        return text

    expected = run([double(block) for block in blocks], x.double(), text.double())
    with autocast(dtype):
        actual = run(blocks, x, text.to(dtype))
    assert actual.dtype == torch.float32
    change, start = expected - text.double(), text.to(dtype).double() - text.double()
    assert_close(actual.double() - text.double() - start, change, 16 * torch.finfo(dtype).eps)


@HALVES
def test_cross_attention_sums_in_float32(dtype):
    """As in a block: the output of attention is rounded, but not its sum with a text that is much larger."""
    layer = randomize(CrossAttentionLayer(12, 6, 2, 0, 0.0))
    visual, text = noise(1, 16, 12), (100 * noise(1, 3, 12, seed=1)).to(dtype)
    expected = double(layer)(text.double(), visual.double())
    with autocast(dtype):
        assert_close(layer(text, visual), expected, torch.finfo(dtype).eps / 32)


def test_the_norm_of_maps_stays_in_the_range_of_float16():
    ours, theirs = LayerNorm2d(8), import_sam_modeling().common.LayerNorm2d(8)
    randomize(ours)
    theirs.load_state_dict(ours.state_dict())
    x = 300 * noise(2, 8, 5, 4)
    assert_close(ours(x), theirs(x), 1e-6)
    with autocast(torch.float16):
        assert_close(ours(x.half()), double(theirs)(x.half().double()), 1e-3)


@HALVES
@pytest.mark.parametrize('kind', ['SAMHead', 'GeneralizedSAMHead'])
@pytest.mark.parametrize('scheme', ['LayerWiseInstruction', 'EndToEndInstruction', 'CrossAttentionInstruction'])
def test_a_step_and_a_prediction_are_close_to_float32(scheme, kind, dtype):
    sizes = dict(attn_dims=8, num_heads=2) if scheme == 'CrossAttentionInstruction' else {}
    model = segmentor(
        backbone=backbone(instruction=dict(type=scheme, text_dims=16, dropout=0.0, **sizes)),
        decode_head=decode_head(
            type=kind, loss_decode=[dict(type='BinaryCrossEntropyLoss'), dict(type='BinaryDiceLoss')]
        ),
    ).eval()
    data = model.data_preprocessor(batch(), training=True)
    expected = model(**copy.deepcopy(data), mode='loss')
    masks = [sample.seg_logits.data for sample in model(**copy.deepcopy(data), mode='predict')]
    with autocast(dtype):
        losses = model(**copy.deepcopy(data), mode='loss')
        results = model(**copy.deepcopy(data), mode='predict')
    for name, value in losses.items():
        assert value.dtype == torch.float32
        if name.startswith('decode.loss'):
            assert_close(value, expected[name], 8 * torch.finfo(dtype).eps, name)
    for result, mask in zip(results, masks):
        assert result.seg_logits.data.dtype == torch.float32
        assert_close(result.seg_logits.data, mask, 8 * torch.finfo(dtype).eps)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
