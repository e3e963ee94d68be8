import pytest
import torch

from dit_sam.utils import RELEASED_DIT, SAM, StateDictMap

RELEASED = [
    'visual_encoder.pos_embed', 'visual_encoder.blocks.0.attn.qkv.weight', 'visual_encoder.neck.0.weight',
    'visual_encoder.probs.3.bias', 'visual_encoder.prob_text.weight', 'prompt_encoder.no_mask_embed.weight',
    'mask_decoder.iou_token.weight', 'text_proj.bias', 'lang_encoder.bert.encoder.layer.0.output.dense.weight'
]
OURS = [
    'backbone.pos_embed', 'backbone.blocks.0.attn.qkv.weight', 'backbone.neck.0.weight',
    'backbone.instruction.projections.3.bias', 'backbone.instruction.text_projection.weight',
    'decode_head.prompt_encoder.no_mask_embed.weight', 'decode_head.mask_decoder.iou_token.weight',
    'decode_head.text_proj.bias', 'text_encoder.model.encoder.layer.0.output.dense.weight'
]


def weights(names) -> dict:
    return {name: torch.tensor(float(i)) for i, name in enumerate(names)}


def test_released_names_to_ours_and_back():
    assert RELEASED_DIT.to_ours(weights(RELEASED)) == weights(OURS)
    assert RELEASED_DIT.to_theirs(weights(OURS)) == weights(RELEASED)


def test_a_wrapper_s_prefix_is_taken_off():
    assert RELEASED_DIT.to_ours(weights(f'module.{name}' for name in RELEASED)) == weights(OURS)


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_what_has_no_use_is_dropped(prefix):
    unused = weights(prefix + name for name in (
        'query_embeddings.weight', 'self_attention.in_proj_weight', 'lang_encoder.bert.pooler.dense.weight'))
    assert RELEASED_DIT.to_ours(unused) == {}


def test_sam_s_names_to_ours_and_back():
    theirs = ['image_encoder.pos_embed', 'prompt_encoder.no_mask_embed.weight', 'mask_decoder.iou_token.weight']
    ours = ['backbone.pos_embed', 'decode_head.prompt_encoder.no_mask_embed.weight',
            'decode_head.mask_decoder.iou_token.weight']
    assert SAM.to_ours(weights(theirs)) == weights(ours)
    assert SAM.to_theirs(weights(ours)) == weights(theirs)


@pytest.mark.parametrize('direction', ['to_ours', 'to_theirs'])
def test_unknown_names_are_all_listed(direction):
    names = ['zebra.weight', RELEASED[0], OURS[0], 'ant.bias']
    with pytest.raises(KeyError) as error:
        getattr(RELEASED_DIT, direction)(weights(names))
    unknown = ['ant.bias', OURS[0] if direction == 'to_ours' else RELEASED[0], 'zebra.weight']
    assert f'3 names have no counterpart: {", ".join(sorted(unknown))}' in str(error.value)


def test_sam_has_no_place_for_text():
    names = ['backbone.instruction.projections.0.weight', 'decode_head.text_proj.bias', 'text_encoder.model.x']
    with pytest.raises(KeyError, match='3 names have no counterpart'):
        SAM.to_theirs(weights(names))


def test_the_first_prefix_that_fits_decides():
    either = StateDictMap(prefixes=(('a.b.', 'x.'), ('a.', 'y.')))
    assert either.to_ours(weights(['a.b.c', 'a.d'])) == weights(['x.c', 'y.d'])
    assert either.to_theirs(weights(['x.c', 'y.d'])) == weights(['a.b.c', 'a.d'])
