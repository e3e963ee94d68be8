"""SAM's own checkpoint into `SAMViT`, `DITViT` and `SAMHead` by `init_cfg`."""
import pytest
import torch
from mmseg.registry import MODELS
from tiny import ARCH, backbone, decode_head, randomise, segmentor
from torch import nn

from dit_sam.compat import import_sam_modeling

SAM_VIT = dict(type='SAMViT', arch=ARCH, img_size=32, patch_size=8, out_channels=16, window_size=3)


@pytest.fixture
def sam() -> dict:
    """The state dict of a SAM with 24 channels, named as in sam_vit_b_01ec64.pth."""
    modeling = import_sam_modeling()
    parts = nn.ModuleDict(dict(
        image_encoder=modeling.ImageEncoderViT(
            32, 8, 3, ARCH['embed_dims'], ARCH['depth'], ARCH['num_heads'], out_chans=16, use_rel_pos=True,
            window_size=3, global_attn_indexes=ARCH['global_attn_indexes']),
        prompt_encoder=modeling.PromptEncoder(16, (4, 4), (32, 32), mask_in_chans=16),
        mask_decoder=modeling.MaskDecoder(
            transformer_dim=16, transformer=modeling.TwoWayTransformer(2, 16, 2, 32), iou_head_hidden_dim=16)))
    return randomise(parts).state_dict()


@pytest.fixture
def from_sam(sam, tmp_path):
    """``from_sam(config)`` builds a part and initialises it from that SAM, less `without`, plus `extra`."""

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
    return {name for name, value in module.state_dict().items()
            if prefix + name in sam and torch.equal(value, sam[prefix + name])}


def test_the_image_encoder_takes_all_of_sam_s(sam, from_sam):
    model = from_sam(SAM_VIT)
    assert loaded(model, sam, 'image_encoder.') == set(model.state_dict())


def test_without_a_neck_it_takes_the_rest(sam, from_sam):
    model = from_sam(dict(SAM_VIT, out_channels=0))
    assert loaded(model, sam, 'image_encoder.') == set(model.state_dict())


def test_the_instruction_starts_at_zero_beside_sam_s_weights(sam, from_sam):
    model = from_sam(backbone())
    others = {name for name in model.state_dict() if name not in loaded(model, sam, 'image_encoder.')}
    assert others == {name for name in model.state_dict() if name.startswith('instruction.')}
    assert not any(projection.weight.any() for projection in model.instruction.projections)


@pytest.mark.parametrize('depth', [2, 4])
def test_the_mask_decoder_takes_all_of_sam_s(sam, from_sam, depth):
    head = from_sam(decode_head(depth=depth))
    others = {name for name in head.state_dict() if name not in loaded(head, sam)}
    new = ('text_proj.', 'mask_decoder.transformer.layers.2.', 'mask_decoder.transformer.layers.3.')
    assert others == {name for name in head.state_dict() if name.startswith(new)}


def test_a_whole_model_takes_both(sam, from_sam, tmp_path):
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
    with pytest.raises(ValueError, match='sam.pth does not fit SAMViT: 1 weights unknown: zebra'):
        from_sam(SAM_VIT, extra=('image_encoder.zebra', ))


def test_weights_of_another_size_are_listed(from_sam):
    with pytest.raises(ValueError, match=r'of another shape .*: pos_embed is \(1, 4, 4, 24\), not \(1, 5, 5, 24\)'):
        from_sam(dict(SAM_VIT, img_size=40))


@pytest.mark.parametrize('config', [SAM_VIT, decode_head()], ids=['image encoder', 'mask decoder'])
def test_a_missing_file_says_where_to_get_it(config):
    model = MODELS.build(dict(config, init_cfg=dict(type='Pretrained', checkpoint='no/such/sam_vit_b_01ec64.pth')))
    with pytest.raises(FileNotFoundError, match='no/such/sam_vit_b_01ec64.pth not found: .*Model Checkpoints'):
        model.init_weights()
