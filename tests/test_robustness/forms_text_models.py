"""Folders of text models, as `hf download` would write them."""

from functools import lru_cache
from pathlib import Path
from random import Random
from shutil import rmtree

from forms_checkpoints import as_pth
from forms_hostile_checkpoints import hostile_pickle, in_zip
from fuzzing import Attempt, refused
from transformers import BertConfig

from dit_sam.models import HuggingFaceTextEncoder

SIZES = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=8)


@lru_cache
def encoder() -> HuggingFaceTextEncoder:
    return HuggingFaceTextEncoder(dict(SIZES, model_type='bert'))


@refused(
    'checkpoints',
    "folders of a text model: empty, without config or weights, with another model's weights, with pickles that "
    'call something',
    'folder; nothing in it is run',
    share=0.1,
)
def text_folder(rng: Random, folder: Path) -> Attempt:
    path = folder / 'bert'
    rmtree(path, ignore_errors=True)
    path.mkdir()
    evil = hostile_pickle(rng, f'touch {folder}/trace')
    weights = rng.choice([None, evil, in_zip(evil), as_pth(dict()), b'', as_pth(dict(pooler=1))])
    if weights is not None:
        (path / 'pytorch_model.bin').write_bytes(weights)
    if rng.random() < 0.8:
        BertConfig(**SIZES).save_pretrained(path)

    def run() -> None:
        encoder().init_cfg = dict(type='Pretrained', checkpoint=str(path))
        try:
            encoder().init_weights()
        finally:
            assert not (folder / 'trace').exists(), 'something of the file was run'

    return Attempt(run, (str(path),))
