"""mmseg's own models with SAM's encoder in place of theirs, as docs/mixing.md has them."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from small import moved_parts, page_configs, small_model
from test_docs import build_on_meta, write_blocks  # noqa: F401  (a fixture)
from tiny import batch, sample

from dit_sam.mmengine_extras.config_check import check_config
from dit_sam.structures import TextFeatures

IN_MMSEG = sorted(name for name, code in page_configs().items() if 'mmdet::' not in code and 'refcoco' not in name)
IN_MMSEG.remove('swin.py')


@pytest.mark.parametrize('name', IN_MMSEG)
def test_recipe(name, write_blocks):  # noqa: F811
    """At full size every shape fits; at small size it trains a step and predicts, in windows if mmseg's model does."""
    cfg = Config.fromfile(write_blocks('mixing.md')[name])
    check_config(cfg, name)
    model = build_on_meta(cfg.model).eval()
    if name not in ('mask2former.py', 'sentences.py'):  # these give several outputs, or look up words
        assert model(torch.zeros(1, 3, 512, 512, device='meta')).shape[1] == 150
    assert model.backbone.depth == {'setr.py': 24}.get(name, 12)

    model = MODELS.build(small_model(cfg))
    model.init_weights()
    model.train()
    moved = moved_parts(model, lambda: train(model))
    assert moved == {name for name, part in model.named_children() if any(True for _ in part.parameters())}
    model.eval()
    data = dict(inputs=batch([(80, 104)], ['cat'])['inputs'], data_samples=[sample((80, 104), 'cat', (61, 99))])
    (prediction,) = model.test_step(data)
    assert prediction.pred_sem_seg.data.shape == (1, 61, 99)
    assert prediction.pred_sem_seg.data.min() >= 0 and prediction.pred_sem_seg.data.max() < 150


def train(model) -> None:
    optim_wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1))
    log = model.train_step(batch([(64, 64), (64, 64)], ['cat', 'dog']), optim_wrapper)
    assert log['loss'].isfinite()


@pytest.mark.parametrize('name', ['swin.py', 'upernet_refcoco.py'])
def test_recipe_of_referring_segmentation_fits_at_full_size(name, write_blocks):  # noqa: F811
    """The table's combinations run at small size; here the channels of the page's configs meet."""
    cfg = Config.fromfile(write_blocks('mixing.md')[name])
    model = build_on_meta(cfg.model).eval()
    with torch.device('meta'):
        text = TextFeatures(torch.zeros(1, 5, 768), torch.ones(1, 5, dtype=torch.bool))
        maps = model.extract_feat(torch.zeros(1, 3, 512, 512), text)
        logits = model.decode_head(maps, text=text) if name == 'swin.py' else model.decode_head(maps)
    assert logits.shape == (1, 1, 128, 128)
