"""Tiny text models of each family in the layout of a hub folder, with their own tokenizers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from tiny import VOCABULARY, randomize
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

CORPUS = [
    f'{article} {size} {color} {thing} {where}'
    for article in ('the', 'a')
    for size in ('big', 'small')
    for color in ('red', 'blue', 'green')
    for thing in ('cat', 'dog', 'box', 'café')
    for where in ('on the left', 'right of the cats', 'near un-known fish')
]
SIZES = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)


@dataclass
class Family:
    """A model in a folder.

    Attributes:
        folder: Its folder.
        tokenizer: Its tokenizer.
        reference: transformers' own features, (B, L, 16), of the tokenizer's output.
        max_positions: Most tokens of a sentence; None without limit.
    """

    folder: str
    tokenizer: transformers.PreTrainedTokenizerBase
    reference: Callable[..., torch.Tensor]
    max_positions: int | None


def byte_pairs(specials: list[str], suffix: str = '') -> dict:
    """Vocabulary and merges of a byte-level BPE."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=not suffix)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=specials,
            initial_alphabet=alphabet,
            end_of_word_suffix=suffix,
            show_progress=False,
        ),
    )
    model = json.loads(tokenizer.to_str())['model']
    # The alphabet ends words too, as CLIP's does: there is no unknown character.
    for letter in alphabet if suffix else ():
        model['vocab'].setdefault(letter + suffix, len(model['vocab']))
    return dict(vocab=model['vocab'], merges=[tuple(pair) for pair in model['merges']])


def unigrams(specials: list[str]) -> list[tuple[str, float]]:
    """Pieces with their scores, as sentencepiece has them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=120, special_tokens=specials, unk_token=specials[-1], show_progress=False),
    )
    return [tuple(piece) for piece in json.loads(tokenizer.to_str())['model']['vocab']]


def word_pieces(specials: list[str]) -> dict[str, int]:
    return {token: i for i, token in enumerate(dict.fromkeys([*specials, *VOCABULARY]))}


def put(folder: Path, model_type: str, tokenizer, max_positions: int | None = None, **sizes) -> Family:
    """Save a randomized model of text alone and its tokenizer."""
    ids = dict(
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    config = transformers.AutoConfig.for_model(model_type, **{**SIZES, **ids, 'vocab_size': len(tokenizer), **sizes})
    model = randomize(transformers.AutoModel.from_config(config)).eval()
    return save(folder, model, model, tokenizer, max_positions)


def save(folder: Path, whole, text, tokenizer, max_positions: int | None) -> Family:
    whole.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Family(str(folder), tokenizer, lambda **batch: text(**batch).last_hidden_state, max_positions)


def bert(folder: Path) -> Family:
    tokenizer = transformers.BertTokenizer(vocab=word_pieces(VOCABULARY[:5]))
    return put(folder, 'bert', tokenizer, 24, max_position_embeddings=24)


def minilm(folder: Path) -> Family:
    """In the layout of sentence-transformers, with unused files that describe the pooling of tokens."""
    (folder / '1_Pooling').mkdir(parents=True)
    (folder / '1_Pooling' / 'config.json').write_text('{"word_embedding_dimension": 16}')
    (folder / 'modules.json').write_text('[{"idx": 0, "name": "0", "path": "", "type": "Transformer"}]')
    return bert(folder)


def multilingual_minilm(folder: Path) -> Family:
    """A BERT with XLM-RoBERTa's pieces."""
    tokenizer = transformers.XLMRobertaTokenizer(vocab=unigrams(['<s>', '<pad>', '</s>', '<unk>']))
    return put(folder, 'bert', tokenizer, 24, max_position_embeddings=24, pad_token_id=0)


def roberta(folder: Path) -> Family:
    """Positions start after the padding token, 1, so 24 of 26 embeddings are left."""
    tokenizer = transformers.RobertaTokenizer(**byte_pairs(['<s>', '<pad>', '</s>', '<unk>', '<mask>']))
    return put(folder, 'roberta', tokenizer, 24, max_position_embeddings=26, type_vocab_size=1)


def mpnet(folder: Path) -> Family:
    tokenizer = transformers.MPNetTokenizer(vocab=word_pieces(['<s>', '<pad>', '</s>', '<unk>', '[UNK]', '<mask>']))
    return put(folder, 'mpnet', tokenizer, 24, max_position_embeddings=26)


def deberta_v1(folder: Path) -> Family:
    tokenizer = transformers.DebertaTokenizer(**byte_pairs(['[CLS]', '[PAD]', '[SEP]', '[UNK]', '[MASK]']))
    return put(
        folder,
        'deberta',
        tokenizer,
        24,
        max_position_embeddings=24,
        relative_attention=True,
        pos_att_type=['c2p', 'p2c'],
        type_vocab_size=0,
    )


def deberta(folder: Path) -> Family:
    """Like DeBERTa-v3, with only relative positions."""
    tokenizer = transformers.DebertaV2Tokenizer(vocab=unigrams(['[PAD]', '[CLS]', '[SEP]', '[UNK]']))
    return put(
        folder,
        'deberta-v2',
        tokenizer,
        64,
        max_position_embeddings=64,
        relative_attention=True,
        position_biased_input=False,
        pos_att_type=['p2c', 'c2p'],
        position_buckets=8,
        share_att_key=True,
        norm_rel_ebd='layer_norm',
        type_vocab_size=0,
    )


def t5(folder: Path) -> Family:
    tokenizer = transformers.T5Tokenizer(vocab=unigrams(['<pad>', '</s>', '<unk>']), extra_ids=0)
    config = transformers.T5Config(
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        vocab_size=len(tokenizer),
        feed_forward_proj='gated-gelu',
    )
    whole = randomize(transformers.T5ForConditionalGeneration(config)).eval()
    return save(folder, whole, whole.get_encoder(), tokenizer, None)


def clip(folder: Path) -> Family:
    """Its padding token is the one that ends a sentence."""
    ends = ['<|startoftext|>', '<|endoftext|>']
    tokenizer = transformers.CLIPTokenizer(**byte_pairs(ends, suffix='</w>'))
    text = dict(SIZES, vocab_size=len(tokenizer), max_position_embeddings=24, bos_token_id=0, eos_token_id=1)
    config = transformers.CLIPConfig(
        text_config=text, vision_config=dict(SIZES, image_size=8, patch_size=4), projection_dim=8
    )
    whole = randomize(transformers.CLIPModel(config)).eval()
    return save(folder, whole, whole.text_model, tokenizer, 24)


def siglip(folder: Path) -> Family:
    """As on the hub, its tokenizer returns no attention mask."""
    import sentencepiece

    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(folder / 'spiece'),
        vocab_size=100,
        hard_vocab_limit=False,
        unk_id=2,
        eos_id=1,
        pad_id=0,
        bos_id=-1,
        minloglevel=2,
    )
    tokenizer = transformers.SiglipTokenizer(str(folder / 'spiece.model'), model_input_names=['input_ids'])
    text = dict(SIZES, vocab_size=len(tokenizer), max_position_embeddings=24, projection_size=16)
    config = transformers.SiglipConfig(text_config=text, vision_config=dict(SIZES, image_size=8, patch_size=4))
    whole = randomize(transformers.SiglipModel(config)).eval()
    return save(folder, whole, whole.text_model, tokenizer, 24)


FAMILIES = dict(
    bert=bert,
    minilm=minilm,
    multilingual_minilm=multilingual_minilm,
    roberta=roberta,
    mpnet=mpnet,
    deberta_v1=deberta_v1,
    deberta=deberta,
    t5=t5,
    clip=clip,
    siglip=siglip,
)
