"""Configs and checkpoints in every format, and the errors for those that do not fit."""

import pytest
import torch
from safetensors.torch import save_file
from tiny_inferencer import CONFIG, assert_same, picture, tiny_config

from dit_sam.apis import InputError, ReferringInferencer
from dit_sam.utils import CheckpointError


@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: dict(
            state_dict=state, optimizer=dict(state={}), ema_state_dict={'steps': torch.tensor(1)}, meta={}
        ),
        lambda state: state,
        lambda state: dict(model=state),
        lambda state: dict(state_dict={f'module.{name}': value for name, value in state.items()}),
    ],
    ids=['mmengine', 'bare', 'model', 'parallel'],
)
def test_checkpoints_of_every_form(inferencer, tmp_path, wrap):
    torch.save(wrap(inferencer.model.state_dict()), tmp_path / 'a.pth')
    loaded = ReferringInferencer(tiny_config(), tmp_path / 'a.pth', device='cpu')
    assert_same(inferencer(picture(), 'circle'), loaded(picture(), 'circle'))


def test_weights_of_another_model_are_refused_with_the_differences(inferencer, tmp_path):
    state = inferencer.model.state_dict()
    state['backbone.pos_embed'] = state['backbone.pos_embed'][:, :5]
    del state['decode_head.text_proj.weight']
    state['neck.weight'] = torch.zeros(1)
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / 'a.safetensors')
    with pytest.raises(CheckpointError) as caught:
        ReferringInferencer(tiny_config(), tmp_path / 'a.safetensors', device='cpu')
    message = str(caught.value)
    assert '\n' not in message and f'{tmp_path / "a.safetensors"} does not fit config {CONFIG}' in message
    assert message.endswith(
        'the two belong to different models: 1 weights missing: decode_head.text_proj.weight; 1 weights unknown: '
        'neck.weight; 1 weights of another shape (another arch?): backbone.pos_embed is (1, 5, 12, 32), not '
        '(1, 12, 12, 32)'
    )


@pytest.mark.parametrize('content, found', [(dict(epoch=3, meta={}), 'only epoch, meta'), ([1], 'nothing')])
def test_a_file_without_weights_is_refused(tmp_path, content, found):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=f'a.pth holds no weights: .* there is {found}'):
        ReferringInferencer(tiny_config(), tmp_path / 'a.pth', device='cpu')


def test_missing_config_and_checkpoint_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='config .*none.py not found'):
        ReferringInferencer(tmp_path / 'none.py')
    with pytest.raises(FileNotFoundError, match='checkpoint .*none.pth not found'):
        ReferringInferencer(tiny_config(), tmp_path / 'none.pth')
    with pytest.raises(InputError, match='none.pth without a config'):
        ReferringInferencer(None, tmp_path / 'none.pth')


def test_a_model_of_another_scope_is_an_error():
    cfg = tiny_config()
    cfg.default_scope = 'mmdet'
    with pytest.raises(InputError, match='the model is of mmdet: ReferringInferencer takes models of mmseg'):
        ReferringInferencer(cfg, device='cpu')


def test_a_pipeline_that_loads_no_image_is_an_error():
    cfg = tiny_config()
    cfg.test_dataloader.dataset.pipeline = [dict(type='PackReferringInputs')]
    with pytest.raises(ValueError, match='has no LoadImageFromFile'):
        ReferringInferencer(cfg, device='cpu')
