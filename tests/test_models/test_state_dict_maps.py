import pytest
import torch
from torch import nn
from transformers import SamConfig, SamModel

from dit_sam.compat import import_sam_modeling
from dit_sam.errors import InputError
from dit_sam.models import SAMViT
from dit_sam.models.weights import HUGGING_FACE_SAM, OURS, RELEASED_DIT, SAM, StateDictMap, find_layout
from dit_sam.models.weights.conversion import ARCHS, sam_on_meta

RELEASED = [
    'visual_encoder.pos_embed',
    'visual_encoder.blocks.0.attn.qkv.weight',
    'visual_encoder.neck.0.weight',
    'visual_encoder.probs.3.bias',
    'visual_encoder.prob_text.weight',
    'prompt_encoder.no_mask_embed.weight',
    'mask_decoder.iou_token.weight',
    'text_proj.bias',
    'lang_encoder.bert.encoder.layer.0.output.dense.weight',
]
OUR_NAMES = [
    'backbone.pos_embed',
    'backbone.blocks.0.attn.qkv.weight',
    'backbone.neck.0.weight',
    'backbone.instruction.projections.3.bias',
    'backbone.instruction.text_projection.weight',
    'decode_head.prompt_encoder.no_mask_embed.weight',
    'decode_head.mask_decoder.iou_token.weight',
    'decode_head.text_proj.bias',
    'text_encoder.model.encoder.layer.0.output.dense.weight',
]


def weights(names) -> dict:
    return {name: torch.tensor(float(i)) for i, name in enumerate(names)}


def test_released_names_to_ours_and_back():
    assert RELEASED_DIT.to_ours(weights(RELEASED)) == weights(OUR_NAMES)
    assert RELEASED_DIT.to_theirs(weights(OUR_NAMES)) == weights(RELEASED)


def test_a_wrappers_prefix_is_removed():
    assert RELEASED_DIT.to_ours(weights(f'module.{name}' for name in RELEASED)) == weights(OUR_NAMES)


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_unused_weights_are_dropped(prefix):
    unused = weights(
        prefix + name
        for name in (
            'query_embeddings.weight',
            'self_attention.in_proj_weight',
            'lang_encoder.bert.pooler.dense.weight',
            'lang_encoder.bert.embeddings.position_ids',
        )
    )
    assert RELEASED_DIT.to_ours(unused) == {}


def test_sam_names_to_ours_and_back():
    theirs = ['image_encoder.pos_embed', 'prompt_encoder.no_mask_embed.weight', 'mask_decoder.iou_token.weight']
    ours = [
        'backbone.pos_embed',
        'decode_head.prompt_encoder.no_mask_embed.weight',
        'decode_head.mask_decoder.iou_token.weight',
    ]
    assert SAM.to_ours(weights(theirs)) == weights(ours)
    assert SAM.to_theirs(weights(ours)) == weights(theirs)


@pytest.mark.parametrize('direction', ['to_ours', 'to_theirs'])
def test_unknown_names_are_all_listed(direction):
    names = ['zebra.weight', RELEASED[0], OUR_NAMES[0], 'ant.bias']
    with pytest.raises(InputError) as error:
        getattr(RELEASED_DIT, direction)(weights(names))
    unknown = ['ant.bias', OUR_NAMES[0] if direction == 'to_ours' else RELEASED[0], 'zebra.weight']
    assert f'3 names have no counterpart: {", ".join(sorted(unknown))}' in str(error.value)


def test_only_the_first_unknown_names_are_listed():
    with pytest.raises(InputError, match='7 names .*: zebra0, zebra1, zebra2, zebra3, zebra4 and 2 more$'):
        SAM.to_ours(weights(f'zebra{i}' for i in range(7)))


@pytest.mark.parametrize('layout', [SAM, HUGGING_FACE_SAM])
def test_sam_has_no_place_for_text(layout):
    names = ['backbone.instruction.projections.0.weight', 'decode_head.text_proj.bias', 'text_encoder.model.x']
    assert layout.to_theirs(weights(names)) == {}
    with pytest.raises(InputError, match='1 names have no counterpart: auxiliary_head.conv_seg.bias'):
        layout.to_theirs(weights([*names, 'auxiliary_head.conv_seg.bias']))


def test_the_first_prefix_that_fits_decides():
    either = StateDictMap(prefixes=(('a.b.', 'x.'), ('a.', 'y.')))
    assert either.to_ours(weights(['a.b.c', 'a.d'])) == weights(['x.c', 'y.d'])
    assert either.to_theirs(weights(['x.c', 'y.d'])) == weights(['a.b.c', 'a.d'])


def test_a_number_is_kept_on_both_sides():
    table = StateDictMap(prefixes=(('a.{}.b{}.', 'x{}.y.{}.'),))
    assert table.to_ours(weights(['a.3.b12.w'])) == weights(['x3.y.12.w'])
    assert table.to_theirs(weights(['x3.y.12.w'])) == weights(['a.3.b12.w'])
    assert not table.knows('a.c.b1.w')


SHARED = 'shared_image_embedding.positional_embedding', 'prompt_encoder.shared_embedding.positional_embedding'
GAUSSIAN = 'decode_head.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix'


@pytest.mark.parametrize('there', [SHARED[:1], SHARED[1:], SHARED])
def test_one_of_two_copies_is_enough_and_both_are_written(there):
    value = torch.ones(2)
    assert HUGGING_FACE_SAM.to_ours(dict.fromkeys(there, value)) == {GAUSSIAN: value}
    assert HUGGING_FACE_SAM.to_theirs({GAUSSIAN: value}) == dict.fromkeys(SHARED, value)


def test_copies_that_differ_are_an_error():
    with pytest.raises(InputError, match=f'{SHARED[0]} and {SHARED[1]} differ'):
        HUGGING_FACE_SAM.to_ours(weights(SHARED))


def shapes(state_dict: dict) -> dict:
    return {name: tuple(value.shape) for name, value in state_dict.items()}


@pytest.mark.parametrize('arch', ARCHS)
def test_against_transformers(arch):
    """All names and shapes of `SamModel`, with the sizes of facebook/sam-vit-{base,large,huge}."""
    sizes = SAMViT.ARCHITECTURES[arch]
    vision = dict(
        hidden_size=sizes['embed_dims'],
        num_hidden_layers=sizes['depth'],
        num_attention_heads=sizes['num_heads'],
        global_attn_indexes=list(sizes['global_attn_indexes']),
        mlp_dim=4 * sizes['embed_dims'],
    )
    with torch.device('meta'):
        theirs = SamModel(SamConfig(vision_config=vision)).state_dict()
    ours = sam_on_meta(arch)
    assert shapes(HUGGING_FACE_SAM.to_theirs(ours)) == shapes(theirs)
    assert HUGGING_FACE_SAM.to_ours(HUGGING_FACE_SAM.to_theirs(weights(ours))) == weights(ours)


@pytest.mark.parametrize('arch', ARCHS)
def test_against_segment_anything(arch):
    modeling, sizes = import_sam_modeling(), SAMViT.ARCHITECTURES[arch]
    with torch.device('meta'):
        theirs = nn.ModuleDict(
            dict(
                image_encoder=modeling.ImageEncoderViT(
                    embed_dim=sizes['embed_dims'],
                    depth=sizes['depth'],
                    num_heads=sizes['num_heads'],
                    use_rel_pos=True,
                    window_size=14,
                    global_attn_indexes=sizes['global_attn_indexes'],
                ),
                prompt_encoder=modeling.PromptEncoder(256, (64, 64), (1024, 1024), mask_in_chans=16),
                mask_decoder=modeling.MaskDecoder(
                    transformer_dim=256, transformer=modeling.TwoWayTransformer(2, 256, 8, 2048)
                ),
            )
        ).state_dict()
    assert shapes(SAM.to_theirs(sam_on_meta(arch))) == shapes(theirs)


@pytest.mark.parametrize('layout', [SAM, HUGGING_FACE_SAM, RELEASED_DIT, OURS], ids=lambda layout: layout.source)
def test_the_layout_is_found_by_the_names(layout):
    names = layout.to_theirs(weights(sam_on_meta('base')))
    assert find_layout(names, 'a.pth') is layout
    assert find_layout([f'module.{name}' for name in names] + ['zebra'], 'a.pth') is layout


def test_unknown_layouts_are_an_error():
    with pytest.raises(InputError, match='a.pth holds neither SAM nor .*: none of its 2 names is known, such as bl'):
        find_layout(['pos_embed', 'blocks.0.x'], 'a.pth')
