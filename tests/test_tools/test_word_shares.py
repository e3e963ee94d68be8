"""tools/analysis_tools/word_shares.py: how distinct the words are in each block."""

import json
import runpy

import pytest
import torch
from processes import ROOT, call_tool
from torch.nn import functional as F

from dit_sam.apis import DEFAULT_CHECKPOINT, DEFAULT_CONFIG, ReferringInferencer
from dit_sam.datasets.shapes import write_shapes
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError

PATH = str(ROOT / 'tools' / 'analysis_tools' / 'word_shares.py')
TOOL = runpy.run_path(PATH)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp('shapes')
    write_shapes(folder, images=3, seed=1, size=96, splits=dict(val=1.0))
    return f'{folder}/'


def test_share_by_hand():
    """Squares within the sentences: 2 + 2, of 4 - 2 degrees of freedom. Of all words, around 4: 9 + 1 + 1 + 9, of 3."""
    sentences = [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])]
    assert TOOL['word_share'](sentences) == pytest.approx((4 / 2) / (20 / 3))
    assert TOOL['word_share']([torch.ones(2, 3), torch.ones(4, 3)]) == 0


def test_blocks_whose_words_are_alike_have_no_share(data):
    """P_i = 0 makes all words alike. P_i = 1 leaves those of the text encoder, here as words of the sentence alone."""
    cfg = load_config(DEFAULT_CONFIG, cfg_options={'test_dataloader.dataset.data_root': data})
    inferencer = ReferringInferencer(cfg, DEFAULT_CHECKPOINT)
    model = inferencer.model
    instruction = model.backbone.instruction
    before = TOOL['word_shares'](inferencer, 24)
    assert len(before) == 6 and all(0.5 < share < 1.5 for share in before)
    with torch.no_grad():
        instruction.projections['1'].weight.zero_()
        instruction.projections['2'].weight.copy_(torch.eye(instruction.embed_dims))
        instruction.projections['2'].bias.zero_()
    words: list[torch.Tensor] = []
    instruction.project = lambda tokens: words.append(type(instruction).project(instruction, tokens)) or words[-1]
    texts: list = []
    encode, model.encode_text = model.encode_text, lambda samples: texts.append(encode(samples)) or texts[-1]
    after = TOOL['word_shares'](inferencer, 24)
    assert (after[0], after[1]) == (pytest.approx(before[0]), 0)
    norm = model.backbone.blocks[2].norm1
    normed = [F.layer_norm(each, each.shape[-1:], norm.weight, norm.bias, norm.eps) for each in words]
    sentences = [one[kept] for each, text in zip(normed, texts) for one, kept in zip(each, text.mask)]
    assert after[2] == pytest.approx(TOOL['word_share'](sentences[:24]))


def test_shares_are_printed_and_written(data, tmp_path, capsys):
    options = ['--sentences', '4', '--cfg-options', f'test_dataloader.dataset.data_root={data}']
    out = tmp_path / 'shares.json'
    assert not call_tool(PATH, DEFAULT_CONFIG, DEFAULT_CHECKPOINT, '--json', out, *options)
    shares = json.loads(out.read_text())
    assert capsys.readouterr().out.splitlines() == [f'block {i}: {share:.2f}' for i, share in enumerate(shares)]
    assert call_tool(PATH, DEFAULT_CONFIG, DEFAULT_CHECKPOINT, '--json', tmp_path, *options) == 1
    assert f'{tmp_path} is a folder: name a file in it' in capsys.readouterr().err.splitlines()[-1]


def test_an_encoder_without_text_has_no_shares(data):
    cfg = load_config(
        DEFAULT_CONFIG, cfg_options={'test_dataloader.dataset.data_root': data, 'model.backbone.instruction': None}
    )
    inferencer = ReferringInferencer(cfg)
    assert TOOL['word_shares'](inferencer, 4) == [None] * 6
    inferencer.model.backbone = torch.nn.Identity()
    with pytest.raises(InputError, match='model.backbone is a Identity: only a DITViT has text tokens'):
        TOOL['word_shares'](inferencer, 4)
