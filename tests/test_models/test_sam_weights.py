"""SAM's own checkpoint, and SAM in other layouts, into `SAMViT`, `DITViT` and `SAMHead` by `init_cfg`."""

import pytest
import torch
from mmseg.registry import MODELS
from safetensors.torch import save as to_bytes
from safetensors.torch import save_file
from small_hub import Repository
from tiny import ARCH, backbone, decode_head, randomize, segmentor, text_encoder
from torch import nn
from transformers import SamConfig, SamModel

from dit_sam.compat import import_sam_modeling
from dit_sam.models.weights import HUGGING_FACE_SAM, OURS, RELEASED_DIT, SAM
from dit_sam.models.weights.conversion import sam_on_meta

SAM_VIT = dict(type='SAMViT', arch=ARCH, img_size=32, patch_size=8, out_channels=16, window_size=3)


@pytest.fixture
def sam() -> dict:
    """The state dict of a SAM with 24 channels, named as in sam_vit_b_01ec64.pth."""
    modeling = import_sam_modeling()
    parts = nn.ModuleDict(
        dict(
            image_encoder=modeling.ImageEncoderViT(
                32,
                8,
                3,
                ARCH['embed_dims'],
                ARCH['depth'],
                ARCH['num_heads'],
                out_chans=16,
                use_rel_pos=True,
                window_size=3,
                global_attn_indexes=ARCH['global_attn_indexes'],
            ),
            prompt_encoder=modeling.PromptEncoder(16, (4, 4), (32, 32), mask_in_chans=16),
            mask_decoder=modeling.MaskDecoder(
                transformer_dim=16, transformer=modeling.TwoWayTransformer(2, 16, 2, 32), iou_head_hidden_dim=16
            ),
        )
    )
    return randomize(parts).state_dict()


@pytest.fixture
def from_sam(sam, tmp_path):
    """`from_sam(config)` builds a part and initializes it from that SAM, less `without`, plus `extra`."""

    def build(config: dict, without: str = '-', extra: tuple = ()) -> nn.Module:
        weights = {name: value for name, value in sam.items() if without not in name}
        path = str(tmp_path / 'sam.pth')
        torch.save({**weights, **{name: torch.zeros(1) for name in extra}}, path)
        model = MODELS.build(dict(config, init_cfg=dict(type='Pretrained', checkpoint=path)))
        model.init_weights()
        return model

    return build


def loaded(module: nn.Module, sam: dict, prefix: str = '') -> set:
    """Names in `module` of weights that equal SAM's."""
    return {
        name
        for name, value in module.state_dict().items()
        if prefix + name in sam and torch.equal(value, sam[prefix + name])
    }


def test_the_image_encoder_loads_all_of_sams_weights(sam, from_sam):
    model = from_sam(SAM_VIT)
    assert loaded(model, sam, 'image_encoder.') == set(model.state_dict())


def test_without_a_neck_it_loads_the_rest(sam, from_sam):
    model = from_sam(dict(SAM_VIT, out_channels=0))
    assert loaded(model, sam, 'image_encoder.') == set(model.state_dict())


def test_the_instruction_starts_at_zero_with_sams_weights(sam, from_sam):
    model = from_sam(backbone())
    others = {name for name in model.state_dict() if name not in loaded(model, sam, 'image_encoder.')}
    assert others == {name for name in model.state_dict() if name.startswith('instruction.')}
    assert not any(projection.weight.any() for projection in model.instruction.projections.values())


@pytest.mark.parametrize('depth', [2, 4])
def test_the_mask_decoder_loads_all_of_sams_weights(sam, from_sam, depth):
    head = from_sam(decode_head(depth=depth))
    others = {name for name in head.state_dict() if name not in loaded(head, sam)}
    new = ('text_proj.', 'mask_decoder.transformer.layers.2.', 'mask_decoder.transformer.layers.3.')
    assert others == {name for name in head.state_dict() if name.startswith(new)}


def test_a_whole_model_loads_both(sam, from_sam, tmp_path):
    from_sam(SAM_VIT)
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'sam.pth'))
    model = segmentor(backbone=backbone(init_cfg=init_cfg), decode_head=decode_head(init_cfg=init_cfg))
    model.init_weights()
    weights = model.backbone.state_dict()
    assert torch.equal(weights['blocks.0.attn.qkv.weight'], sam['image_encoder.blocks.0.attn.qkv.weight'])
    assert torch.equal(model.decode_head.mask_decoder.iou_token.weight, sam['mask_decoder.iou_token.weight'])


def test_missing_weights_are_listed(from_sam):
    with pytest.raises(ValueError, match='sam.pth does not fit SAMViT: 6 weights missing: blocks.0.attn.rel_pos_h, '):
        from_sam(SAM_VIT, without='rel_pos')
    with pytest.raises(ValueError, match='does not fit SAMHead: 1 weights missing: mask_decoder.iou_token.weight'):
        from_sam(decode_head(), without='iou_token')


def test_unknown_weights_are_listed(from_sam):
    with pytest.raises(ValueError, match='sam.pth: 1 names have no counterpart: image_encoder.zebra'):
        from_sam(SAM_VIT, extra=('image_encoder.zebra',))


def test_weights_of_another_size_are_listed(from_sam):
    with pytest.raises(ValueError, match=r'of another shape .*: pos_embed is \(1, 4, 4, 24\), not \(1, 5, 5, 24\)'):
        from_sam(dict(SAM_VIT, img_size=40))


@pytest.mark.parametrize('config', [SAM_VIT, decode_head()], ids=['image encoder', 'mask decoder'])
def test_a_missing_file_says_where_to_get_it(config):
    model = MODELS.build(dict(config, init_cfg=dict(type='Pretrained', checkpoint='no/such/sam_vit_b_01ec64.pth')))
    with pytest.raises(FileNotFoundError, match='no/such/sam_vit_b_01ec64.pth not found: .*Model Checkpoints'):
        model.init_weights()


def build(config: dict, checkpoint) -> nn.Module:
    """A part initialized from a file."""
    model = MODELS.build(dict(config, init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint))))
    model.init_weights()
    return model


@pytest.mark.parametrize(
    'save',
    [
        lambda weights, folder: save_file(weights, folder / 'a.safetensors') or 'a.safetensors',
        lambda weights, folder: torch.save(dict(state_dict=weights, meta=dict(), epoch=1), folder / 'a.pth') or 'a.pth',
    ],
    ids=['safetensors', 'pth'],
)
@pytest.mark.parametrize('layout', [SAM, HUGGING_FACE_SAM, RELEASED_DIT, OURS], ids=lambda layout: layout.source)
def test_any_layout_and_file_format_loads(sam, tmp_path, layout, save):
    weights = {name: value.clone() for name, value in layout.to_theirs(SAM.to_ours(sam)).items()}
    path = tmp_path / save(weights, tmp_path)
    assert loaded(build(SAM_VIT, path), sam, 'image_encoder.') == {
        name.removeprefix('image_encoder.') for name in sam if name.startswith('image_encoder.')
    }
    assert loaded(build(decode_head(text_dims=None), path), sam) == {
        name for name in sam if not name.startswith('image_encoder.')
    }


def test_a_folder_of_transformers_loads(tmp_path):
    theirs = randomize(
        SamModel(
            SamConfig(
                vision_config=dict(
                    hidden_size=24,
                    num_hidden_layers=3,
                    num_attention_heads=3,
                    image_size=32,
                    patch_size=8,
                    window_size=3,
                    global_attn_indexes=[1],
                    output_channels=16,
                    mlp_dim=96,
                    num_pos_feats=8,
                ),
                prompt_encoder_config=dict(hidden_size=16, image_size=32, patch_size=8),
                mask_decoder_config=dict(hidden_size=16, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16),
            )
        )
    )
    theirs.save_pretrained(tmp_path)
    weights = SAM.to_theirs(HUGGING_FACE_SAM.to_ours(theirs.state_dict()))
    backbone_, head = build(SAM_VIT, tmp_path), build(decode_head(text_dims=None), tmp_path)
    assert loaded(backbone_, weights, 'image_encoder.') == set(backbone_.state_dict())
    assert loaded(head, weights) == set(head.state_dict())


def test_our_checkpoints_also_load_parts_that_sam_does_not_have(tmp_path):
    """Instruction, text projection and a third decoder block; other parts, of whatever name, do not matter."""
    head = decode_head(depth=3)
    model = segmentor(decode_head=head)
    torch.save(dict(state_dict={**model.state_dict(), 'auxiliary_head.x': torch.zeros(1)}), tmp_path / 'epoch_1.pth')
    for config, part in (
        (backbone(), model.backbone),
        (backbone(out_channels=0), model.backbone),
        (head, model.decode_head),
    ):
        found = build(config, tmp_path / 'epoch_1.pth').state_dict()
        assert all(torch.equal(value, part.state_dict()[name]) for name, value in found.items())
    with pytest.raises(ValueError, match='does not fit DITViT: 8 weights unknown: instruction.projections.0.bias, '):
        build(backbone(instruction=None), tmp_path / 'epoch_1.pth')


def test_an_instruction_of_another_width_is_listed(tmp_path):
    torch.save(segmentor(decode_head=decode_head(text_dims=20)).state_dict(), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'does not fit SAMHead: 1 weights of .*: text_proj.weight is \(16, 20\)'):
        build(decode_head(), tmp_path / 'a.pth')


@pytest.mark.parametrize('layout', [SAM, HUGGING_FACE_SAM, RELEASED_DIT, OURS], ids=lambda layout: layout.source)
def test_a_file_of_another_size_says_which_arch_it_is(tmp_path, layout):
    weights = layout.to_theirs(sam_on_meta('large'))
    torch.save({name: torch.zeros(1).expand(value.shape) for name, value in weights.items()}, tmp_path / 'sam.pth')
    for kind in ('SAMViT', 'DITViT'):
        with (
            torch.device('meta'),
            pytest.raises(
                ValueError, match=r"sam.pth is ViT-L \(large\), the config asks for arch='base': change arch, or name"
            ),
        ):
            build(dict(type=kind), tmp_path / 'sam.pth')


def test_a_file_of_an_unnamed_size_reports_its_numbers(sam, from_sam):
    with pytest.raises(
        ValueError,
        match='sam.pth is a ViT of 24 channels and 3 blocks, the config asks for a ViT of 48 channels and 3 blocks',
    ):
        from_sam(dict(SAM_VIT, arch=dict(ARCH, embed_dims=48)))


def test_a_file_without_sam_is_an_error(tmp_path):
    save_file(dict(pos_embed=torch.zeros(1)), tmp_path / 'mae.safetensors')
    with pytest.raises(ValueError, match='mae.safetensors holds neither SAM nor a model of dit_sam'):
        build(SAM_VIT, tmp_path / 'mae.safetensors')


def test_every_part_takes_its_weights_from_a_hub(hub):
    expected = segmentor(seed=1).state_dict()
    hub.repositories['me/model'] = repository = Repository()
    tag = repository.commit({'model.safetensors': to_bytes(expected)})
    init_cfg = dict(type='Pretrained', checkpoint=f'hf://me/model@{tag}/model.safetensors')
    model = segmentor(
        seed=None,
        text_encoder=text_encoder(init_cfg=dict(init_cfg, prefix='text_encoder.')),
        backbone=backbone(init_cfg=init_cfg),
        decode_head=decode_head(init_cfg=init_cfg),
    )
    model.init_weights()
    assert [name for name, value in model.state_dict().items() if not torch.equal(value, expected[name])] == []
