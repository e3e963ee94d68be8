"""Every config is loaded and built; what it says of the paper is checked."""
import ast
from pathlib import Path

import pytest
import torch
from dit_sam.datasets.shapes import VOCABULARY
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'
LEAVES = sorted(path.name for path in (CONFIGS / 'dit_sam').glob('*.py'))
# SAM's image encoder (segment_anything's own counts) and BERT-base without pooler, in millions.
ENCODER = dict(b=89.67, l=308.28, h=637.03)
BERT = 108.89


def load(name: str) -> Config:
    cfg = Config.fromfile(CONFIGS / 'dit_sam' / name)
    init_default_scope(cfg.default_scope)
    return cfg


@pytest.mark.parametrize('name', LEAVES)
def test_every_config_is_built(name: str) -> None:
    """On the meta device: every module is made with its shapes, without ViT-H's gigabytes."""
    cfg = load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert {type(model.backbone).__name__, type(model.decode_head).__name__} == {'DITViT', 'SAMHead'}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert DATASETS.get(cfg[loader].dataset.type) is not None
        Compose(cfg[loader].dataset.pipeline)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        METRICS.build(evaluator)
    for hook in (*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])):
        HOOKS.build(hook)


@pytest.mark.parametrize('name', LEAVES)
def test_a_leaf_stands_on_base_files_alone(name: str) -> None:
    """At most two levels: a leaf builds on `_base_`, not on another leaf."""
    tree = ast.parse((CONFIGS / 'dit_sam' / name).read_text())
    bases = next(node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == '_base_')
    assert all(base.startswith('../_base_/') for base in ast.literal_eval(bases))


@pytest.mark.parametrize('scheme', ['default', 'edit', 'ldit'])
@pytest.mark.parametrize('size', ['b', 'l', 'h'])
def test_sizes_are_sams(scheme: str, size: str) -> None:
    """The encoder has SAM's parameters plus the instruction's.

    P_i is a Linear(D, D): depth · (D² + D); a Linear(768, D) comes first where D is not BERT's 768.
    """
    with torch.device('meta'):
        model = MODELS.build(load(f'{scheme}_vit-{size}.py').model)
    width, depth = model.backbone.embed_dims, model.backbone.depth
    counts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in model.named_children()}
    instruction = 0 if scheme == 'default' else depth * (width**2 + width) + (width != 768) * (768 * width + width)
    assert (counts['backbone'] - instruction) / 1e6 == pytest.approx(ENCODER[size], abs=0.01)
    assert counts['text_encoder'] / 1e6 == pytest.approx(BERT, abs=0.01)


@pytest.mark.parametrize('name, epochs', [('ldit_vit-b', 40), ('edit_vit-l', 40), ('ldit_vit-h', 25),
                                          ('default_vit-b', 25)])
def test_schedule_is_the_papers(name: str, epochs: int) -> None:
    """Section 4.3: Adam, 1e-4, × 0.2 at epochs 30 and 35, three epochs of warm-up, batch 64."""
    cfg = load(f'{name}.py')
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=1e-4, betas=(0.9, 0.98), eps=1e-9)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 64
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.start_factor * 1e-4, warm_up.end) == (pytest.approx(1e-7), 3)
    assert (steps.milestones, steps.gamma) == ([30, 35], 0.2)


def test_words_of_the_small_model_are_those_of_the_grammar() -> None:
    encoder = load('ldit_vit-t_shapes.py').model.text_encoder
    assert tuple(encoder.tokenizer) == ('[PAD]', '[UNK]', '[CLS]', '[SEP]', *VOCABULARY)
    assert encoder.model.vocab_size == len(encoder.tokenizer)
