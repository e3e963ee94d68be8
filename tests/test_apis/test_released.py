"""Models that other projects released, opened by name, from their repositories and from folders."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_hub import Repository

from dit_sam.apis import DEFAULT_CHECKPOINT, released
from dit_sam.apis.pretrained import open_pretrained
from dit_sam.errors import InputError
from dit_sam.utils import CheckpointError

SETTINGS = dict(model_type='evf', sam_scale='huge', mm_extractor_scale='large', hidden_size=1024, out_dim=256)
WEIGHTS = b'the released weights'


def files(**settings: str) -> dict[str, bytes]:
    """The files of a repository of EVF-SAM, as far as opening it reads them before the model is built."""
    return {
        'config.json': json.dumps(SETTINGS | settings).encode(),
        'sentencepiece.bpe.model': b'pieces',
        'tokenizer_config.json': b'{}',
        'special_tokens_map.json': b'{}',
        'pytorch_model.bin': WEIGHTS,
    }


@pytest.fixture
def known(monkeypatch) -> dict:
    """The released models, with the size and the SHA-256 of the weights above."""
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    own = dict(size=len(WEIGHTS), sha256=f'{digest[:8]}...{digest[-5:]}')
    models = {name: replace(model, **own) for name, model in released.released_models().items()}
    monkeypatch.setattr(released, 'released_models', lambda: models)
    digest = hashlib.sha256(b'pieces').hexdigest()
    monkeypatch.setattr(released, 'PIECES', (6, f'{digest[:8]}...{digest[-6:]}'))
    monkeypatch.setattr('dit_sam.apis.pretrained.released_models', lambda: models)
    return models


def test_released_models_are_fetched_once_by_name(known, hub):
    plain, multitask = (Repository() for _ in range(2))
    hub.repositories |= {'YxZhang/evf-sam': plain, 'YxZhang/evf-sam-multitask': multitask}
    plain.commit(files())
    multitask.commit(files() | {'added_tokens.json': b'{"[semantic]": 64002}'})
    for name, config in (('evf-sam', 'evf_vit-h_beit3-l'), ('evf-sam-multitask', 'evf_vit-h_beit3-l_multitask')):
        opened, weights = open_pretrained(name)
        assert Path(opened.filename).stem == config and Path(weights).read_bytes() == WEIGHTS
        assert (Path(opened.model.text_encoder.tokenizer) / 'sentencepiece.bpe.model').read_bytes() == b'pieces'
        assert open_pretrained(f'YxZhang/{name}')[1] == weights
    fetched = [request for request in hub.requests if request.startswith('GET') and 'pytorch_model.bin' in request]
    assert len(fetched) == 2


@pytest.mark.parametrize(
    'content, message',
    [
        ({'pytorch_model.bin': WEIGHTS[:-1]}, 'has 19 bytes, the released evf-sam has 20: remove '),
        ({'pytorch_model.bin': WEIGHTS[:-1] + b'!'}, 'has the SHA-256 '),
        ({'sentencepiece.bpe.model': b''}, 'has 0 bytes, the released evf-sam has 6: remove '),
    ],
)
def test_another_file_under_the_released_name_is_refused(known, hub, content, message):
    hub.repositories['YxZhang/evf-sam'] = repository = Repository()
    repository.commit(files() | content)
    for name in ('evf-sam', 'YxZhang/evf-sam', 'YxZhang/evf-sam@main'):
        with pytest.raises(CheckpointError, match=message):
            open_pretrained(name)


def test_a_repository_without_the_pickle_opens_again_without_a_network(known, hub, monkeypatch):
    hub.repositories['me/mine'] = repository = Repository()
    content = files()
    content['model.safetensors'] = content.pop('pytorch_model.bin')
    repository.commit(content)
    opened = open_pretrained('me/mine')[1]
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    assert open_pretrained('me/mine')[1] == opened and opened.endswith('model.safetensors')


def test_a_folder_opens_without_a_network(known, tmp_path):
    """The files may be another's: they are not compared with the released ones."""
    for name, content in files().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'pytorch_model.bin').rename(tmp_path / 'model.safetensors')
    config, weights = open_pretrained(tmp_path)
    assert weights == str(tmp_path / 'model.safetensors')
    assert config.model.text_encoder.tokenizer == str(tmp_path)
    (tmp_path / 'model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='pytorch_model.bin not found: copy it there'):
        open_pretrained(tmp_path)


def test_other_variants_and_unknown_names_are_refused(tmp_path):
    (tmp_path / 'config.json').write_bytes(files(sam_scale='large')['config.json'])
    with pytest.raises(InputError, match="sam_scale='large'.*: evf-sam and evf-sam-multitask"):
        open_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model at 'evf-sam3'.*vit-t_shapes, evf-sam, evf-sam-multitask"):
        open_pretrained('evf-sam3')


def test_shipped_models_open_by_name():
    config, weights = open_pretrained('ldit_vit-t_shapes')
    assert weights == DEFAULT_CHECKPOINT and config.model.type == 'ReferringSegmentor'


def test_the_hashes_and_sizes_in_the_metafile_are_the_known_ones():
    model = released.released_models()['evf-sam']
    assert model.size == 2_630_742_858 and model.repository == 'YxZhang/evf-sam'
    assert model.sha256.startswith('8d577711') and model.sha256.endswith('0555e')
