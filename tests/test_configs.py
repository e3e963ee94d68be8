"""Every config is loaded and built, and compared with the paper."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import walk
import yaml
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn

from dit_sam.datasets.shapes import GENERALIZED_VOCABULARY
from dit_sam.mmengine_extras.config_check import check_config

CONFIGS = Path(__file__).parents[1] / 'configs'
# Configs that start from one of mmseg or mmdet are built in test_mixing/.
LEAVES = [name for name in walk.NAMES if '::' not in (CONFIGS / name).read_text()]
# SAM's image encoder (segment_anything's own counts) and BERT-base without pooler, in millions.
ENCODER = dict(b=89.67, l=308.28, h=637.03)
BERT = 108.89


INSTRUCTION = 'model.backbone.instruction'
FROZEN = dict(image='model.backbone.frozen', text='model.text_encoder.frozen')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def files(folder: str, refs: str, **more) -> dict:
    """The settings of a data set in all three loaders."""
    files = dict(ann_file=f'{folder}/instances.json', refs_file=f'{folder}/{refs}', **more)
    return {f'{loader}.dataset.{key}': value for loader in LOADERS for key, value in files.items()}


def size(arch: str, checkpoint: str) -> dict:
    init = {f'model.{part}.init_cfg.checkpoint': f'checkpoints/{checkpoint}' for part in ('backbone', 'decode_head')}
    return {'model.backbone.arch': arch, **init}


# The released settings of 25 epochs: wcosine from 1e-4 to 1e-6, after three epochs of warm-up.
COSINE = dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin=3, end=25, by_epoch=True, convert_to_iter_based=True)
WARM_UP = dict(type='LinearLR', start_factor=1e-3, begin=0, end=3, by_epoch=True, convert_to_iter_based=True)
EPOCHS_25 = {'train_cfg.max_epochs': 25, 'param_scheduler': [WARM_UP, COSINE]}

# What each word in the name of a config of the paper changes in ldit_vit-b.
WORDS = {
    ('ldit',): {},
    ('edit',): {f'{INSTRUCTION}.type': 'EndToEndInstruction'},
    ('default',): {INSTRUCTION: None, **EPOCHS_25},
    ('vit-b',): {},
    ('vit-l',): size('large', 'sam_vit_l_0b3195.pth'),
    ('vit-h',): {**size('huge', 'sam_vit_h_4b8939.pth'), **EPOCHS_25},
    ('dec4',): {'model.decode_head.depth': 4},
    ('dec6',): {'model.decode_head.depth': 6},
    ('frozen-image',): {FROZEN['image']: True},
    ('frozen-text',): {FROZEN['text']: True},
    ('frozen-both',): {FROZEN['image']: True, FROZEN['text']: True},
    ('ldit', 'static'): {f'{INSTRUCTION}.type': 'LayerWiseStaticInstruction'},
    ('edit', 'static'): {f'{INSTRUCTION}.type': 'EndToEndStaticInstruction'},
    ('ldit', 'crossattn'): {f'{INSTRUCTION}.type': 'CrossAttentionInstruction'},
    ('ldit', 'crossattn-ffn'): {f'{INSTRUCTION}.type': 'CrossAttentionInstruction', f'{INSTRUCTION}.ffn': True},
    ('refcocoplus',): files('refcoco+', 'refs(unc).p'),
    ('refcocog',): files('refcocog', 'refs(umd).p'),
    ('grefcoco',): {
        **files('grefcoco', 'grefs(unc).json', type='GRefCOCODataset'),
        **{f'{evaluator}.generalized': True for evaluator in ('val_evaluator', 'test_evaluator')},
        'model.decode_head.type': 'GeneralizedSAMHead',
        'default_hooks.checkpoint.save_best': 'gIoU',
    },
}


# Results of `facts` by the text of the model's config.
FACTS: dict[str, SimpleNamespace] = {}
KNOWN = {word for words in WORDS for word in words}
OF_THE_PAPER = [
    name.removeprefix('dit_sam/')
    for name in LEAVES
    if name.startswith('dit_sam/') and set(name[len('dit_sam/') : -len('.py')].split('_')) <= KNOWN
]


def load(name: str) -> Config:
    """A config, in the folder dit_sam if the name has none."""
    cfg = Config.fromfile(CONFIGS / ('' if '/' in name else 'dit_sam') / name)
    init_default_scope(cfg.default_scope)
    return cfg


def test_images_are_loaded_into_pinned_memory() -> None:
    """Also in models of mmseg and mmdet; the latter's preprocessor then copies without waiting."""
    mixed = [path.name for path in (CONFIGS / 'dit_sam').glob('*.py') if '::' in path.read_text()]
    for name in ('ldit_vit-b.py', *mixed):
        cfg = Config.fromfile(CONFIGS / 'dit_sam' / name)
        assert all(cfg[loader].pin_memory for loader in LOADERS), name
        assert cfg.model.data_preprocessor.get('non_blocking') or 'Det' not in cfg.model.data_preprocessor.type


def facts(name: str) -> SimpleNamespace:
    """What the tests ask of a config's model, which is built once; several configs have the same one.

    On the meta device: every module is made with its shapes, without ViT-H's gigabytes.
    """
    if 'lora' in name:
        pytest.importorskip('peft', reason='LoRA needs peft')
    cfg = walk.load(name if '/' in name else f'dit_sam/{name}')
    if repr(cfg.model) not in FACTS:
        with torch.device('meta'):
            net = MODELS.build(cfg.model).train()
        FACTS[repr(cfg.model)] = SimpleNamespace(
            kinds={type(net.backbone).__name__, type(net.decode_head).__name__},
            width=net.backbone.embed_dims,
            depth=net.backbone.depth,
            counts={name: sum(weight.numel() for weight in part.parameters()) for name, part in net.named_children()},
            trained={key: weight.requires_grad for key, weight in net.named_parameters()},
            without_gradient=without_gradient(net, cfg),
        )
    return FACTS[repr(cfg.model)]


def without_gradient(net: nn.Module, cfg: Config) -> list[str]:
    """The trained weights that have no gradient after a step, with two of BERT's layers, which are alike."""
    layers = getattr(getattr(net.text_encoder, 'model', None), 'encoder', None)
    if hasattr(layers, 'layer'):
        layers.layer = layers.layer[:2]
    net.data_preprocessor.to('meta')
    losses = net.loss(**net.data_preprocessor(walk.batch(cfg, True), True))
    net.parse_losses(losses)[0].backward()
    return [key for key, weight in net.named_parameters() if weight.requires_grad and weight.grad is None]


@pytest.mark.parametrize('name', LEAVES)
def test_every_config_is_built(name: str) -> None:
    cfg = load(name)
    check_config(cfg, name)
    head = 'GeneralizedSAMHead' if 'gref' in name or 'gshapes' in name else 'SAMHead'
    head = 'EVFSAMHead' if name.startswith('evf_sam/evf') else head
    assert facts(name).kinds == {'DITViT', head}
    datasets = [cfg[loader].dataset for loader in LOADERS]
    for dataset in (part for whole in datasets for part in whole.get('datasets', [whole])):
        assert DATASETS.get(dataset.type) is not None
        Compose(dataset.pipeline)
    Compose(cfg.tta_pipeline)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        METRICS.build(evaluator)
    for hook in (*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])):
        HOOKS.build(hook)


@pytest.mark.parametrize('name', LEAVES)
def test_a_step_trains_every_weight_and_reads_no_content(name: str) -> None:
    """On meta tensors, from pictures of two sizes to the gradients: shapes fit, trained weights have a gradient, as
    DistributedDataParallel needs, and no value is read for which the host would wait for a GPU."""
    assert facts(name).without_gradient == []


@pytest.mark.parametrize('name', LEAVES)
def test_tta_views_are_smaller_and_mirrored_versions_of_the_test_pipeline(name: str) -> None:
    """The largest is the test pipeline's own, so that all fit `data_preprocessor.size`."""
    cfg = load(name)
    first, views = cfg.tta_pipeline
    (flips,) = (options for options in views.transforms if options[0].type == 'ReferringFlip')
    assert [flip.prob for flip in flips] == [0, 1]
    assert [first, *(options[-1] for options in views.transforms if options is not flips)] == cfg.test_pipeline
    sides = [max(step.scale) for options in views.transforms for step in options if step.type == 'Resize']
    assert len(sides) > 1 and sides == sorted(set(sides)) and cfg.tta_model == dict(type='ReferringTTAModel')


@pytest.mark.parametrize('name', LEAVES)
def test_a_config_inherits_only_from_base_files(name: str) -> None:
    """At most two levels: a leaf builds on `_base_`, not on another leaf."""
    tree = ast.parse((CONFIGS / name).read_text())
    bases = next(node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == '_base_')
    assert all(base.startswith('../_base_/') for base in ast.literal_eval(bases))


@pytest.mark.parametrize('name', OF_THE_PAPER)
def test_a_config_changes_only_what_its_name_says(name: str) -> None:
    expected, said = load('ldit_vit-b.py'), name.removesuffix('.py').split('_')
    changes = [change for words, change in WORDS.items() if set(words) <= set(said)]
    for change in changes:
        expected.merge_from_dict(change)
    # Variables of the config files that no part reads.
    helpers = ('sam', 'files')
    actual = {key: value for key, value in load(name).to_dict().items() if key not in helpers}
    assert actual == {key: value for key, value in expected.to_dict().items() if key not in helpers}


@pytest.mark.parametrize('name', ['ldit_vit-b', 'ldit_vit-h'])
def test_plus_has_the_additions_that_were_measured(name: str) -> None:
    """Loss and threshold of the comparison's L-DIT, to which Dice was added, and the IoU head."""
    expected, measured = load(f'{name}.py'), load('ldit_vit-t_pretrained_shapes.py').model.decode_head
    head = dict(loss_decode=measured.loss_decode, threshold=measured.threshold, predict_iou=True)
    expected.merge_from_dict(dict(model=dict(decode_head=head)))
    assert load(f'{name}_plus.py').to_dict() == expected.to_dict()


@pytest.mark.parametrize('name', [name for name in OF_THE_PAPER if 'frozen' in name])
def test_only_frozen_encoders_have_no_gradient(name: str) -> None:
    """SAM's parts that a text prompt does not use are frozen everywhere."""
    model, tuned = (facts(file).trained for file in (name, re.sub('_frozen-[a-z]+', '', name)))
    frozen = dict(image=('backbone.',), text=('text_encoder.',), both=('backbone.', 'text_encoder.'))
    prefixes = frozen[re.search('frozen-([a-z]+)', name)[1]]
    expected = {
        key
        for key, trained in tuned.items()
        if not trained or (key.startswith(prefixes) and not key.startswith('backbone.instruction.'))
    }
    assert {key for key, trained in model.items() if not trained} == expected


def readme_tables() -> list[dict]:
    """The rows of the README's tables that link to a config, as column -> text."""
    rows = []
    for block in (CONFIGS / 'dit_sam' / 'README.md').read_text().split('\n\n'):
        cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in block.splitlines() if line[0] == '|']
        rows += [dict(zip(cells[0], row)) for row in cells[2:]]
    return [row for row in rows if 'Config' in row]


def readme_figures() -> dict[str, dict]:
    """config -> {data set and split: {metric: figure}}."""
    figures = {}
    for row in readme_tables():
        name = re.fullmatch(r'\[(.*)\]\(\1\.py\)', row['Config'])[1]
        results = figures.setdefault(name, {})
        for split in ('val', 'testA', 'testB', 'test'):
            if re.match(r'\d', row.get(split, '')):
                numbers = map(float, row[split].split(' / '))
                results[f'{row.get("Set", "RefCOCO")} {split}'] = dict(zip(('oIoU', 'mIoU'), numbers))
        if re.match(r'\d', row.get('P@0.5 val', '')):
            results['RefCOCO val']['P@0.5'] = float(row['P@0.5 val'])
    return figures


def test_metafile_has_the_papers_configs_and_the_readmes_figures() -> None:
    content = yaml.safe_load((CONFIGS / 'dit_sam' / 'metafile.yml').read_text())
    (collection,) = content['Collections']
    assert 'the paper' in collection['Metadata']['Source of Metrics']
    assert (CONFIGS.parent / collection['README']).is_file()
    models = {model['Name']: model for model in content['Models']}
    assert sorted(f'{name}.py' for name in models) == sorted(OF_THE_PAPER)
    assert len(content['Models']) == len(models) == 30
    figures = readme_figures()
    for name, model in models.items():
        assert (model['In Collection'], model['Config']) == (collection['Name'], f'configs/dit_sam/{name}.py')
        assert 'Weights' not in model
        results = model.get('Results', [])
        assert {result['Task'] for result in results} <= {'Referring Image Segmentation'}
        assert {result['Dataset']: result['Metrics'] for result in results} == figures.get(name, {})


def test_readme_links_to_all_configs_of_the_paper() -> None:
    text = (CONFIGS / 'dit_sam' / 'README.md').read_text()
    assert sorted(set(re.findall(r'\]\((\S+\.py)\)', text))) == sorted(OF_THE_PAPER)
    for link in re.findall(r'\]\((\.\./[^)#]+)', text):
        assert (CONFIGS / 'dit_sam' / link).is_file(), link
    # Two of the paper's figures as they are written there: table 1, and ViT-H on RefCOCO+.
    assert readme_figures()['ldit_vit-b']['RefCOCO val'] == {'oIoU': 71.98, 'mIoU': 74.73, 'P@0.5': 85.68}
    assert readme_figures()['ldit_vit-h_refcocoplus']['RefCOCO+ testA'] == {'oIoU': 71.77}


@pytest.mark.parametrize('scheme', ['default', 'edit', 'ldit'])
@pytest.mark.parametrize('size', ['b', 'l', 'h'])
def test_encoder_sizes_equal_sams(scheme: str, size: str) -> None:
    """The encoder has SAM's parameters plus the instruction's.

    P_i is a Linear(D, D): depth · (D² + D); a Linear(768, D) comes first where D is not BERT's 768.
    """
    model = facts(f'{scheme}_vit-{size}.py')
    width, depth, counts = model.width, model.depth, model.counts
    instruction = 0 if scheme == 'default' else depth * (width**2 + width) + (width != 768) * (768 * width + width)
    assert (counts['backbone'] - instruction) / 1e6 == pytest.approx(ENCODER[size], abs=0.01)
    assert counts['text_encoder'] / 1e6 == pytest.approx(BERT, abs=0.01)


@pytest.mark.parametrize(
    'name, epochs', [('ldit_vit-b', 40), ('edit_vit-l', 40), ('ldit_vit-h', 25), ('default_vit-b', 25)]
)
def test_schedule_equals_the_papers(name: str, epochs: int) -> None:
    """Section 4.3: Adam, 1e-4, × 0.2 at epochs 30 and 35, three epochs of warm-up, batch 64."""
    cfg = load(f'{name}.py')
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=1e-4, betas=(0.9, 0.98), eps=1e-9)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 64
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.start_factor * 1e-4, warm_up.end) == (pytest.approx(1e-7), 3)
    if epochs == 40:
        assert (steps.milestones, steps.gamma) == ([30, 35], 0.2)
    else:
        assert steps == COSINE


@pytest.mark.parametrize('name', ['ldit_vit-t_shapes', 'ldit_vit-t_gshapes', 'ldit_vit-t_pretrained_shapes'])
def test_words_of_the_small_models_are_those_of_the_grammar(name: str) -> None:
    encoder = load(f'{name}.py').model.text_encoder
    assert tuple(encoder.tokenizer) == ('[PAD]', '[UNK]', '[CLS]', '[SEP]', *GENERALIZED_VOCABULARY)
    assert encoder.model.vocab_size == len(encoder.tokenizer)


def test_evf_sams_metafile_and_readme_agree() -> None:
    """Every config is in the README; the metafile has the README's figures, and the size of the model."""
    folder = CONFIGS / 'evf_sam'
    models = {model['Name']: model for model in yaml.safe_load((folder / 'metafile.yml').read_text())['Models']}
    text = (folder / 'README.md').read_text()
    assert sorted(re.findall(r'\]\((\S+\.py)\)', text)) == sorted(path.name for path in folder.glob('*.py'))
    rows = dict(re.findall(r'^\| \[(\S+)\]\(\S+\)(.*)$', text, re.M))
    for name, model in models.items():
        assert model['Config'] == f'configs/evf_sam/{name}.py' and (CONFIGS.parent / model['Config']).is_file()
        figures = [f'{result["Metrics"]["oIoU"]}' for result in model.get('Results', [])]
        assert re.findall(r'\d\d\.\d', rows[name]) == figures
        if 'Metadata' in model:
            assert f'`{model["Metadata"]["Released As"]}`' in rows[name]
            assert sum(facts(f'evf_sam/{name}.py').counts.values()) == model['Metadata']['Parameters']
