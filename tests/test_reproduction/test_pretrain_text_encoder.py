"""reproduction/pretrain_text_encoder.py: the text encoder learns from sentences, and `init_cfg` loads its file."""

import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from processes import ROOT, call_tool

from dit_sam.utils import read_weights

TOOL = ROOT / 'reproduction' / 'pretrain_text_encoder.py'
CONFIG = str(ROOT / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')
# The noun determines the color, so that masked words can be learned.
SENTENCES = ['the red circle', 'the green square', 'the blue star']


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / 'train.jsonl'
    path.write_text(json.dumps(dict(image='a.jpg', sentences=SENTENCES, bbox=[1, 2, 3, 4])) + '\n')
    return path


def test_loss_falls_and_the_encoder_takes_the_weights(sentences, tmp_path, output_of):
    out = tmp_path / 'text.safetensors'
    printed = output_of(TOOL, CONFIG, sentences, '--out', out, '--steps', 200, '--batch-size', 16)
    first, last = map(float, re.findall(r'mean loss ([\d.]+)', printed))
    # An untrained model has a loss of ln 80 = 4.4; not knowing which of three sentences it is costs at most ln 3 = 1.1.
    assert last < 1.1 < first
    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIG).model.text_encoder
    encoder = MODELS.build({**cfg, 'init_cfg': dict(type='Pretrained', checkpoint=str(out))})
    encoder.init_weights()
    for name, value in read_weights(str(out)).items():
        assert torch.equal(encoder.state_dict()[name], value)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['none.p', '--out', 'a.safetensors'], 'none.p is not a file: name files of sentences, such as refs(unc).p'),
        (['.', '--out', 'a.safetensors'], '. is not a file: name files of sentences'),
        (['text.p', '--out', 'a.safetensors'], 'text.p is not a plain pickle'),
        (['train.jsonl', '--out', 'text.p/a.safetensors'], 'text.p cannot be written to: '),
        (['train.jsonl', '--out', 'a.bin'], 'a.bin: the file to write must end in .safetensors or .pth'),
        (
            ['train.jsonl', '--out', 'a.pth', '--steps', '0'],
            '--steps and --batch-size are 1 or more, --seed is 0 or more',
        ),
        (['train.jsonl', '--out', 'a.pth', '--masked', '1'], '--masked lies between 0 and 1, --lr is more than 0'),
        (['train.jsonl', '--out', 'a.pth', '--lr', 'nan'], '--masked lies between 0 and 1, --lr is more than 0'),
        (
            ['train.jsonl', '--out', 'a.pth', '--masked', '1e-9'],
            'the loss of step 1 is nan: lower --lr, or raise --batch',
        ),
    ],
)
def test_bad_input_is_one_line(sentences, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'text.p').write_text('text')
    assert call_tool(TOOL, CONFIG, *arguments) in (1, 2)
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['text.p', 'train.jsonl']


def test_a_config_without_text_is_refused(sentences, tmp_path, error_of):
    config = CONFIG.replace('ldit_vit-t_shapes', 'sam_vit-t_shapes')
    assert 'has no model.text_encoder: name a config with one' in error_of(
        TOOL, config, sentences, '--out', tmp_path / 'text.safetensors'
    )


def test_file_without_training_sentences_is_refused(tmp_path, error_of):
    refs = tmp_path / 'grefs(unc).json'
    refs.write_text(
        json.dumps(
            [
                dict(
                    ref_id=1,
                    image_id=1,
                    ann_id=[1],
                    category_id=[1],
                    split='val',
                    sentences=[dict(sent_id=0, sent='box')],
                )
            ]
        )
    )
    assert 'no training sentence' in error_of(TOOL, CONFIG, refs, '--out', tmp_path / 'text.safetensors')
    assert not (tmp_path / 'text.safetensors').exists()
