"""Configs that are misspelled, have wrong types or are damaged."""

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from fuzzing import Attempt, cut, damage, either, misspell, refused
from mmengine.config import Config
from mmseg.registry import METRICS, MODELS
from subjects import CONFIG

from dit_sam.engine.launch import load_config

ROOT = Path(CONFIG).parents[1]
# Sections that a run builds, in configs of every kind of part.
SECTIONS = (
    'model',
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'val_evaluator',
    'test_evaluator',
    'optim_wrapper',
    'param_scheduler',
    'default_hooks',
    'train_cfg',
)
NAMES = (
    'ldit_vit-t_shapes.py',
    'edit_vit-b_static.py',
    'ldit_vit-b_crossattn-ffn.py',
    'ldit_vit-b_joint.py',
    'ldit_vit-h_grefcoco.py',
    'ldit_vit-b_prepared.py',
)
CONFIGS = {name: Config.fromfile(ROOT / 'dit_sam' / name) for name in NAMES}
# It accepts any keywords and passes them on.
OPEN = ('RandomChoiceResize',)


def parts(value: Any, path: tuple = ()) -> Iterator[tuple[str, dict]]:
    """The dicts with a type in a config, with their dotted names; not those with their own builders."""
    if isinstance(value, dict) and 'type' in value and value['type'] not in OPEN:
        yield '.'.join(map(str, path)), value
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    ):
        if not str(key).endswith('_cfg') or not path or key == 'init_cfg':
            yield from parts(inner, (*path, key))


def some_part(rng: Random) -> tuple[str, str, dict]:
    """File, dotted name and content."""
    name = rng.choice(NAMES)
    found = list(parts({section: CONFIGS[name][section] for section in SECTIONS if section in CONFIGS[name]}))
    return str(ROOT / 'dit_sam' / name), *rng.choice(found)


def with_option(file: str, key: str, value: Any, *names: str) -> Attempt:
    return Attempt(lambda: load_config(file, cfg_options={key: value}), (Path(file).name, *names))


@refused('configs', 'misspelled keywords of any part, in six configs', 'config, full key', share=0.5)
def keyword(rng: Random, folder: Path) -> Attempt:
    file, path, part = some_part(rng)
    key = rng.choice(sorted(part))
    wrong = misspell(rng, key)
    return with_option(file, f'{path}.{wrong}', part[key], f'{path}.{wrong}')


@refused('configs', 'misspelled types of any part', 'config, key, value, the nearest name', share=0.5)
def type_of_part(rng: Random, folder: Path) -> Attempt:
    file, path, part = some_part(rng)
    wrong = misspell(rng, part['type'])
    return with_option(file, f'{path}.type', wrong, f'{path}.type', wrong)


@refused('configs', "values of a wrong type in this project's parts", 'config, key, value, the type', share=0.5)
def wrong_type(rng: Random, folder: Path) -> Attempt:
    while True:
        file, path, part = some_part(rng)
        checked = {key: value for key, value in part.items() if is_ours(part) and key != 'type' and value is not None}
        if checked:
            break
    key = rng.choice(sorted(checked))
    value = checked[key]
    wrong = rng.choice(
        dict(bool=['yes', 3.5, [1]], str=[3.5, True], dict=[3.5, [7]]).get(
            type(value).__name__.replace('ConfigDict', 'dict'),
            [object()] if isinstance(value, (list, tuple)) else ['many', [1]],
        )
    )
    return with_option(file, f'{path}.{key}', wrong, f'{path}.{key}')


def is_ours(part: dict) -> bool:
    return bool(
        re.match(
            'SAM|DIT|Ref|GRef|Generalized|HuggingFace|LayerWise|EndToEnd|CrossAtt|BinaryDice|PackRef|LoadRef|'
            'RandomGaussianBlur|ReferringIoU',
            part['type'],
        )
    )


@refused('configs', 'misspelled sections, in the file and on the command line', 'section', share=0.5)
def section(rng: Random, folder: Path) -> Attempt:
    name = rng.choice(SECTIONS)
    wrong = misspell(rng, name)
    if rng.random() < 0.5:
        return Attempt(lambda: load_config(CONFIG, cfg_options={f'{wrong}.a': 1}), (wrong,))
    # Only if the right one is missing, because a user's variable may have a similar name.
    whole = CONFIGS[NAMES[0]].to_dict()
    whole[wrong] = whole.pop(name)
    Config(whole).dump(folder / 'mine.py')
    return Attempt(lambda: load_config(str(folder / 'mine.py')), ('mine.py', wrong if name != 'model' else 'model'))


@refused('configs', 'command-line settings that index into numbers, strings and lists', 'setting', share=0.5)
def into_values(rng: Random, folder: Path) -> Attempt:
    key = rng.choice(
        [
            'model.backbone.patch_size.x',
            'model.backbone.arch.y.z',
            'train_dataloader.dataset.pipeline.99.scale',
            'train_dataloader.dataset.pipeline.x.scale',
            'model.decode_head.loss_decode.7.type',
            'model.type.x',
            'train_dataloader.dataset.pipeline.-9.scale',
        ]
    )
    value = rng.choice([1, 'x', [1], {}])
    return Attempt(lambda: load_config(CONFIG, cfg_options={key: value}), (key,))


@either('configs', 'config files with changed, removed and added bytes, or truncated', 'a config, or file', share=0.5)
def damaged_file(rng: Random, folder: Path) -> Attempt:
    text = f"_base_ = ['{CONFIG}']\nmodel = dict(backbone=dict(arch='tiny', patch_size=8), decode_head=dict(depth=2))\n"
    (folder / 'mine.py').write_bytes(rng.choice([damage, cut])(rng, text.encode()))
    return Attempt(lambda: load_config(str(folder / 'mine.py')), ('mine.py',))


@refused(
    'configs', 'files that are not a config: empty, HTML, bytes, JSON of a list, other suffixes', 'file', share=0.2
)
def other_files(rng: Random, folder: Path) -> Attempt:
    name = rng.choice(['mine.py', 'mine.py', 'mine.json', 'mine.yaml', 'mine.txt', 'mine', 'my-own.v2.py'])
    (folder / name).write_bytes(
        rng.choice(
            [
                b'',
                b'<html>',
                b'[1]',
                b'\x00' * 9,
                b'\xff\xfe',
                b'x = = 1',
                b'raise SystemError',
                b'import nothing_of_this_name',
                b'1 / 0',
                b"_base_ = ['none.py']",
                b'def f(:',
                b'a = 1',
                b"_base_ = ['mine.py', 'mine.py']",
            ]
        )
    )
    return Attempt(lambda: load_config(str(folder / name)), (name,))


@refused('configs', 'missing configs', 'file, the nearest name')
def missing(rng: Random, folder: Path) -> Attempt:
    path = ROOT / 'dit_sam' / misspell(rng, 'ldit_vit-b.py')
    return Attempt(lambda: load_config(str(path)), (path.name,))


# Invalid sizes: key and value, in configs/dit_sam/ldit_vit-t_shapes.py.
SIZES = [
    ('model.text_encoder.max_length', 33, 'max_position_embeddings=32'),
    ('model.text_encoder.max_length', 2, 'max_length=2'),
    ('model.text_encoder.model.model_type', 'birt', 'birt'),
    ('model.text_encoder.model.hiden_size', 64, 'hidden_size'),
    ('model.text_encoder.model.num_attention_heads', 5, 'text_encoder.model'),
    ('model.backbone.arch', 'giant', 'giant'),
    ('model.backbone.arch', dict(_delete_=True, embed_dims=32), 'depth'),
    ('model.backbone.out_indices', (9,), 'out_indices'),
    ('model.backbone.out_indices', (), 'out_indices'),
    ('model.backbone.out_indices', (1, 1), 'out_indices'),
    (
        'model.decode_head.init_cfg',
        [dict(type='Pretrained', checkpoint='x'), dict(type='Normal', layer='Linear')],
        'init_cfg',
    ),
    ('model.decode_head.init_cfg', dict(type='Pretrained'), 'init_cfg'),
    ('model.backbone.init_cfg', dict(type='Pretrained', checkpoint='no/such.pth'), 'no/such.pth'),
    ('model.text_encoder.init_cfg', [dict(type='Pretrained', checkpoint='no/such/weights')], 'no/such/weights'),
    ('train_dataloader.dataset.pipeline.2.scale', 'large', 'pipeline.2.scale'),
    ('optim_wrapper.optimizer.lr', '1e-4', 'optimizer.lr'),
    *(('train_dataloader.batch_size', wrong, 'train_dataloader.batch_size') for wrong in (None, 0, 2.5, 'x')),
    ('val_evaluator.protocol', 'mine', 'mine'),
    ('val_evaluator.dump_masks', True, 'dump'),
]


@refused('configs', 'invalid names and sizes, in model and metric', 'key or value, valid names', share=0.4)
def sizes(rng: Random, folder: Path) -> Attempt:
    key, value, named = rng.choice(SIZES)

    def run() -> None:
        cfg = load_config(CONFIG, cfg_options={key: value})
        METRICS.build(cfg.val_evaluator)
        MODELS.build(cfg.model).init_weights()

    return Attempt(run, (named,))
