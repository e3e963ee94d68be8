"""Shared models: folders and hub repositories that open to the same bits, and run nothing of a stranger."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from safetensors.torch import load_file
from small_hub import Repository
from tiny_inferencer import picture, tiny_config

from dit_sam.apis import InputError, ReferringInferencer
from dit_sam.apis.model_card import describe_training, epoch_and_scores
from dit_sam.apis.pretrained import open_pretrained, write_pretrained
from dit_sam.apis.shared_config import read_config_text
from dit_sam.apis.shared_config_check import check_shared_config
from dit_sam.utils import CheckpointError

SENTENCES = ['the red star', 'the biggest shape on the left']
FILES = ['README.md', 'config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
# A machine without a network and without a cache: the first use of either raises an error.
ALONE = """
import os, sys
os.environ['HF_HOME'] = sys.argv[1] + '/no-cache'
import socket
def refuse(*args, **kwargs):
    raise AssertionError('the network was used')
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import torch
from dit_sam.apis import ReferringInferencer
inferencer = ReferringInferencer.from_pretrained(sys.argv[1], device='cpu')
image, sentences = torch.load(sys.argv[2], weights_only=False)
found = inferencer(image, sentences, return_datasamples=True)['predictions']
torch.save([sample.seg_logits.data for sample in found], sys.argv[3])
"""


def logits(inferencer: ReferringInferencer) -> list[torch.Tensor]:
    found = inferencer(picture(), SENTENCES, return_datasamples=True)['predictions']
    return [sample.seg_logits.data for sample in found]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, first, second)) and len(first) == len(second)


@pytest.fixture
def saved(inferencer, tmp_path) -> Path:
    """A folder that `save_pretrained` wrote."""
    inferencer.save_pretrained(tmp_path / 'new' / 'saved', license='apache-2.0')
    return tmp_path / 'new' / 'saved'


def test_a_moved_folder_opens_to_the_same_bits_without_network_and_cache(inferencer, saved, tmp_path):
    assert sorted(path.name for path in saved.iterdir()) == FILES and len(list(saved.parent.iterdir())) == 1
    moved = saved.rename(tmp_path / 'moved')
    torch.save((picture(), SENTENCES), tmp_path / 'asked.pt')
    command = [sys.executable, '-c', ALONE, moved, tmp_path / 'asked.pt', tmp_path / 'answer.pt']
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert same(torch.load(tmp_path / 'answer.pt'), logits(inferencer))


def test_an_opened_model_is_saved_as_it_was(saved, tmp_path):
    ReferringInferencer.from_pretrained(saved, device='cpu').save_pretrained(tmp_path / 'saved')
    assert [(tmp_path / 'saved' / name).read_bytes() == (saved / name).read_bytes() for name in FILES] == [True] * 5


def test_a_threshold_that_was_set_is_saved(saved, tmp_path):
    inferencer = ReferringInferencer.from_pretrained(saved, device='cpu')
    before = inferencer.cfg.model.decode_head.threshold
    inferencer.model.decode_head.threshold = 0.9
    inferencer.save_pretrained(tmp_path / 'strict')
    assert ReferringInferencer.from_pretrained(tmp_path / 'strict', device='cpu').model.decode_head.threshold == 0.9
    assert inferencer.cfg.model.decode_head.threshold == before != 0.9


def test_files_behind_links_within_the_folder_open(inferencer, saved):
    """As a mounted volume of Kubernetes has them."""
    (saved / '..2026').mkdir()
    for name in FILES:
        (saved / name).rename(saved / '..2026' / name)
        (saved / name).symlink_to(Path('..2026', name))
    assert same(logits(ReferringInferencer.from_pretrained(saved, device='cpu')), logits(inferencer))


def test_repositories_and_revisions_open_to_the_same_bits(inferencer, saved, hub):
    hub.repositories['me/model'] = repository = Repository()
    first = repository.commit({path.name: path.read_bytes() for path in saved.iterdir()})
    repository.refs['v1'] = first
    repository.commit({'config.json': b'{}'})
    assert same(logits(ReferringInferencer.from_pretrained('me/model@v1', device='cpu')), logits(inferencer))
    with pytest.raises(InputError, match='config.json of me/model is not of a model of dit_sam'):
        ReferringInferencer.from_pretrained('me/model')
    # The other files come from the commit of the config, even if the branch moves on meanwhile.
    assert len([one for one in hub.requests if one.startswith(f'GET /me/model/resolve/{first}')]) == 3


def test_half_precision_halves_the_file(inferencer, tmp_path):
    inferencer.save_pretrained(tmp_path / 'half', half=True)
    stored = load_file(tmp_path / 'half' / 'model.safetensors')
    opened = ReferringInferencer.from_pretrained(tmp_path / 'half', device='cpu').model.state_dict()
    assert all(value.dtype == torch.float16 for value in stored.values())
    assert all(torch.equal(opened[name], value.float()) for name, value in stored.items())


def test_lora_is_kept_or_merged(tmp_path):
    pytest.importorskip('peft')
    cfg = tiny_config()
    cfg.model.text_encoder.lora = dict(r=2, lora_alpha=4, target_modules=['query', 'value'])
    torch.manual_seed(0)
    inferencer = ReferringInferencer(cfg, device='cpu')
    for parameter in inferencer.model.parameters():
        parameter.data.normal_(std=0.3)
    inferencer.save_pretrained(tmp_path / 'apart')
    inferencer.save_pretrained(tmp_path / 'merged', merge=True)
    expected = logits(inferencer)
    assert same(logits(ReferringInferencer.from_pretrained(tmp_path / 'apart', device='cpu')), expected)
    merged = ReferringInferencer.from_pretrained(tmp_path / 'merged', device='cpu')
    assert (
        not [name for name in merged.model.state_dict() if 'lora' in name]
        and 'lora' not in merged.cfg.model.text_encoder
    )
    for one, other in zip(logits(merged), expected):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match='the model has no LoRA'):
        merged.save_pretrained(tmp_path / 'again', merge=True)


def test_folders_with_content_are_refused_and_failures_leave_nothing(inferencer, saved, tmp_path):
    before = (saved / 'config.json').stat().st_mtime_ns
    with pytest.raises(InputError, match='saved exists and is not an empty folder: name a new one'):
        inferencer.save_pretrained(saved)
    assert (saved / 'config.json').stat().st_mtime_ns == before
    about = dict(name=None, license=None, training={})
    with pytest.raises(CheckpointError, match='the weights do not fit the config: 1 weights missing|missing'):
        write_pretrained(tmp_path / 'other', inferencer.cfg, dict(a=torch.ones(1)), about)
    cfg = Config(dict(inferencer.cfg.to_dict()))
    cfg.model.decode_head.threshold = float('nan')
    with pytest.raises(InputError, match='NaN is not JSON'):
        write_pretrained(tmp_path / 'other', cfg, inferencer.model.state_dict(), about)
    assert [path.name for path in tmp_path.iterdir()] == ['new']
    (tmp_path / 'empty').mkdir()
    inferencer.save_pretrained(tmp_path / 'empty')


def test_parts_of_other_packages_cannot_be_shared(inferencer, tmp_path):
    cfg = Config(dict(inferencer.cfg.to_dict()))
    cfg.model.backbone.type = 'ResNetOfMine'
    with pytest.raises(InputError, match="model.backbone.type='ResNetOfMine' is not the name of a registered part"):
        write_pretrained(tmp_path / 'other', cfg, {}, dict(name=None, license=None, training={}))


EVIL = dict(type='os.system', command='touch evil')


@pytest.mark.parametrize(
    'edit, message',
    [
        (lambda data: data.update(model=EVIL), "model.type='os.system' is not the name of a registered part"),
        (lambda data: data['pipeline'].append(EVIL), "pipeline.3.type='os.system' is not the name"),
        (lambda data: data['pipeline'].append(dict(type='Albu', transforms=[])), "type='Albu', of mmseg"),
        (lambda data: data['pipeline'].append(dict(type='mmseg.Albu', transforms=[])), "type='mmseg.Albu', of mmseg"),
        (
            lambda data: data['model']['decode_head'].update(
                loss_decode=dict(type='CrossEntropyLoss', class_weight='pkl')
            ),
            'model.decode_head.loss_decode.class_weight names something to load',
        ),
        (lambda data: data['model']['backbone'].update(text='a, b'), "text='a, b' is not a plain word"),
        (lambda data: data['model']['backbone'].update(lora=dict(target_modules=['a/b'])), "='a/b' is not a plain"),
        (lambda data: data['model']['backbone'].update(type='subprocess.call'), 'subprocess.call'),
        (lambda data: data['model']['backbone'].update(type='antigravity'), 'antigravity'),
        (lambda data: data['model']['backbone'].update(type=['os.system']), 'is not the name of a registered part'),
        (lambda data: data['model']['backbone'].update(type='evil.ResNet'), 'evil.ResNet'),
        (lambda data: data['model']['backbone'].update(_scope_='evil'), 'model.backbone._scope_ is not a keyword'),
        (lambda data: data['model']['backbone'].update(norm_cfg=EVIL), 'model.backbone.norm_cfg.type'),
        (
            lambda data: data['model']['backbone'].update(init_cfg=dict(type='Pretrained', checkpoint='x')),
            'model.backbone.init_cfg names something to load',
        ),
        (lambda data: data['model'].update(pretrained='open-mmlab://x'), 'model.pretrained names something to load'),
        (lambda data: data['model']['neck'].update(a='https://x/y'), "model.neck.a='https://x/y' is not a plain word"),
        (lambda data: data['model'].update(train_cfg=dict(a='../x')), 'is not a plain word'),
        (lambda data: data.update(custom_imports=dict(imports=['evil'])), 'custom_imports is not a key of it'),
        (lambda data: data.update(load_from='x'), 'load_from is not a key of it'),
        (lambda data: data.update(default_scope='evil'), "default_scope is not 'mmseg'"),
        (lambda data: data['pipeline'][0].update(backend_args=dict(backend='http')), 'backend_args names something'),
        (lambda data: encoder_of(data).update(tokenizer='../../secret'), 'is not tokenizer.json'),
        (lambda data: encoder_of(data).update(tokenizer='/etc/passwd'), 'is not tokenizer.json'),
        (lambda data: encoder_of(data).update(tokenizer='bert-base-uncased'), 'is not tokenizer.json'),
        (lambda data: encoder_of(data).pop('tokenizer'), 'model.text_encoder lacks tokenizer or model'),
        (lambda data: encoder_of(data).update(model='bert-base-uncased'), 'model.text_encoder.model is not a dict'),
        (lambda data: encoder_of(data)['model'].update(model_type='timm_wrapper'), 'is not a text encoder'),
        (lambda data: encoder_of(data)['model'].update(auto_map='evil'), 'model.auto_map is not a size of bert'),
        (
            lambda data: encoder_of(data)['model'].update(_attn_implementation='evil'),
            'model._attn_implementation is not a size of bert',
        ),
        (lambda data: encoder_of(data).update(trust_remote_code=True), 'trust_remote_code names something to load'),
        (lambda data: encoder_of(data).update(lora=dict(megatron_core='evil')), 'has keywords other than'),
        (lambda data: data['model']['backbone'].update(depth=10**12), 'model.backbone.depth is larger than'),
        (lambda data: data.update(training='x'), 'training is not as save_pretrained writes it'),
        (lambda data: data.update(model=3), 'it lacks the model or the pipeline'),
    ],
)
def test_a_hostile_config_is_one_line_and_runs_nothing(saved, hub, monkeypatch, tmp_path, edit, message):
    monkeypatch.chdir(tmp_path)
    data = json.loads((saved / 'config.json').read_text())
    data['model'].setdefault('neck', {})
    edit(data)
    (saved / 'config.json').write_text(json.dumps(data))
    before = set(sys.modules)
    with pytest.raises(InputError, match='was refused and nothing in it was run: ') as caught:
        ReferringInferencer.from_pretrained(saved)
    assert message in str(caught.value) and '\n' not in str(caught.value)
    assert not Path('evil').exists() and not hub.requests
    assert not {'evil', 'antigravity', 'timm'} & (set(sys.modules) - before)


@pytest.mark.parametrize('sizes', [dict(patch_size=0), dict(img_size=10**7)])
def test_sizes_that_cannot_be_built_are_one_line(saved, sizes):
    data = json.loads((saved / 'config.json').read_text())
    data['model']['backbone'].update(sizes)
    (saved / 'config.json').write_text(json.dumps(data))
    with pytest.raises(InputError, match='cannot be built: ') as caught:
        ReferringInferencer.from_pretrained(saved)
    assert '\n' not in str(caught.value)


def test_an_instruction_and_layers_of_lora_may_have_dots_and_commas():
    backbone = dict(type='StandaloneDITViT', text="road, car, dog's", lora=dict(r=2, target_modules=['q_proj.A']))
    check_shared_config(dict(default_scope='mmseg', model=backbone, pipeline=[]), 'it')


def encoder_of(data: dict) -> dict:
    return data['model']['text_encoder']


@pytest.mark.parametrize(
    'name, content, message',
    [
        ('config.json', '{', 'cannot be read: '),
        ('config.json', '[' * 100000, 'cannot be read: '),
        ('config.json', ' ' * 2**21, 'cannot be read: it has more than 1048576 bytes'),
        ('config.json', '{"a": NaN}', 'cannot be read: NaN is not JSON'),
        ('config.json', '{"model_type": "sam"}', 'is not of a model of dit_sam'),
        ('config.json', '{"library": "dit_sam", "format": 2}', "has format '2', and this version of dit_sam reads 1"),
        ('tokenizer.json', '{"model": {}}', 'tokenizer.json is damaged'),
        ('tokenizer_config.json', '[]', 'tokenizer.json is damaged'),
        ('model.safetensors', 'x', 'model.safetensors is damaged or not a safetensors file'),
    ],
)
def test_damaged_files_are_one_line(saved, name, content, message):
    (saved / name).write_text(content)
    with pytest.raises((InputError, CheckpointError)) as caught:
        ReferringInferencer.from_pretrained(saved, device='cpu')(picture(), SENTENCES)
    assert message in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('name', FILES[1:])
def test_missing_files_are_one_line(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=f'{name} not found: copy it there'):
        ReferringInferencer.from_pretrained(saved)


def test_links_out_of_the_folder_are_refused_except_into_the_cache(saved, tmp_path, hub):
    (saved / 'tokenizer.json').rename(tmp_path / 'secret')
    (saved / 'tokenizer.json').symlink_to(tmp_path / 'secret')
    with pytest.raises(InputError, match='tokenizer.json is a link that leads out of its folder'):
        open_pretrained(saved)
    hub.repositories['me/model'] = repository = Repository()
    repository.commit({path.name: path.read_bytes() for path in saved.iterdir()})
    config, weights = open_pretrained('me/model')
    # The folder of the cache, whose files are links to its blobs.
    assert open_pretrained(Path(weights).parent)[0].model == config.model


@pytest.mark.parametrize('name', ['no_such_folder', '/no/such/folder', './me/model', 'a/b/c', ''])
def test_other_names_are_one_line(name, monkeypatch, tmp_path, hub):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((FileNotFoundError, CheckpointError), match='no model at '):
        ReferringInferencer.from_pretrained(name)
    assert not hub.requests


def test_the_card_says_what_is_known(saved, inferencer, tmp_path):
    card = (saved / 'README.md').read_text()
    head = yaml.safe_load(card.split('---')[1])
    assert head['license'] == 'apache-2.0' and head['pipeline_tag'] == 'image-segmentation'
    assert head['library_name'] == 'dit_sam' and head['datasets'] == ['shapes']
    assert "from_pretrained('saved')" in card and 'No scores are recorded' in card
    inferencer.save_pretrained(tmp_path / 'unlicensed')
    with pytest.raises(InputError, match="license 'all rights' is not a license name of the hub"):
        inferencer.save_pretrained(tmp_path / 'new_one', license='all rights')
    assert 'Not stated. Ask the author' in (tmp_path / 'unlicensed' / 'README.md').read_text()


def test_scores_come_with_data_split_and_protocol():
    cfg = tiny_config()
    cfg.val_evaluator.protocol = 'lavt480'
    hub = dict(runtime_info=dict(scores={'mIoU': 79.5, 'a/mIoU': float('nan'), 'epoch': 2}))
    recorded = epoch_and_scores(dict(meta=dict(epoch=2, iter=7), message_hub=hub))
    assert describe_training(cfg, recorded) == dict(
        epoch=2,
        iter=7,
        scores={'mIoU': 79.5},
        data=[dict(name='shapes', split='train')],
        scored_on=[dict(name='shapes', split='val')],
        protocol='lavt480',
    )
    # Written before the validation of its epoch.
    assert epoch_and_scores(dict(meta=dict(epoch=3), message_hub=hub)) == dict(epoch=3, scores={})
    assert epoch_and_scores({}) == epoch_and_scores(dict(meta=torch.ones(2))) == dict(scores={})


def test_a_config_is_read_from_its_text_without_running_it():
    text = tiny_config().pretty_text
    assert Config(read_config_text(text, 'a.pth')).to_dict() == Config.fromstring(text, '.py').to_dict()


@pytest.mark.parametrize('text', ['import os', 'a = open("x", "w")', 'a = dict(**b)', 'a, b = 1, 2', 'a = b', 'x = ('])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError, match='the config in a.pth cannot be read .*: give --config'):
        read_config_text(text, 'a.pth')
