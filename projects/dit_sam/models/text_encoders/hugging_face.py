"""Text models of transformers as the text encoder; BERT by default, as in the paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...compat import to_device
from ...errors import InputError
from ...structures import TextFeatures, index_tensor
from ...utils import read_weights, state_dict_mismatch
from ..lora import add_lora, lora_names
from ..weights import pretrained_init_cfg
from .base import TextEncoder
from .sentence_cache import SentenceCache
from .text_models import build_model, make_config, max_positions, position_table, weights_from_hub


@MODELS.register_module()
class HuggingFaceTextEncoder(TextEncoder):
    """The last hidden layer of a transformers text model, with [CLS] and [SEP], as text features (DIT, section 3.1).

    docs/text_encoders.md describes the families that are tested: BERT and MiniLM, RoBERTa, DeBERTa, MPNet, the text
    parts of CLIP and SigLIP, the encoder of T5.

    The constructor builds the model from its sizes, with random weights. `init_cfg` loads weights; its checkpoint may
    be a file or its address, a folder in the hub's layout or a hub name. The tokenizer is opened at the first sentence.
    In evaluation mode, equal sentences of a batch are encoded once, and without gradients their features are cached
    (`SentenceCache`).

    Args:
        model: The keywords of a transformers configuration with `model_type` ('bert' without further keywords is
            BERT-base-uncased), or a folder or hub name to read it from. Of a model of images and text, the text part
            is used.
        tokenizer: See `build_tokenizer`.
        max_length: Longest sentence in tokens, special ones included; the rest is cut off, with one warning.
        mask_text_padding: Whether padding tokens are masked. False pads every sentence to `max_length` and passes the
            padding on as if it were text, as the released DIT code does.
        pad_to_max_length: Whether every batch in training has `max_length` tokens, constant shapes for `torch.compile`.
            Otherwise a batch is padded to its longest sentence.
        masked_tokens: In training, the probability of each token of half of the sentences, drawn at random, to be
            replaced by the tokenizer's mask token (or unknown token, without one), so that the model has to use the
            other words. One token always stays. MaskRIS (arXiv 2411.19067) also masks words, but in a second pass,
            which learns the prediction of the first.
        frozen: Whether the weights are frozen; the model then stays in evaluation mode.
        lora: Keywords of `peft.LoraConfig`, such as dict(r=8, lora_alpha=16). Low-rank weights then train in place of
            the model's own.
        init_cfg: As in mmengine; see above. With `prefix` only the weights under it are read from a file.

    Raises:
        InputError: A size is misspelled or impossible, `max_length` is too small or too large, `masked_tokens` is no
            probability or the model is frozen, or `lora` does not fit.
        FileNotFoundError: `model` is neither a folder nor the name of a model on a hub that answers.
    """

    @torch.inference_mode(False)  # as in ReferringSegmentor
    def __init__(
        self,
        model: str | dict = dict(model_type='bert'),
        tokenizer: str | Sequence[str] = 'bert-base-uncased',
        max_length: int = 20,
        mask_text_padding: bool = True,
        pad_to_max_length: bool = False,
        masked_tokens: float = 0.0,
        frozen: bool = False,
        lora: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(tokenizer, max_length, frozen=frozen, init_cfg=init_cfg)
        self.model = build_model(make_config(model))
        self.out_channels = self.model.config.hidden_size
        self.mask_text_padding, self.pad_to_max_length = mask_text_padding, pad_to_max_length
        self.masked_tokens = masked_tokens
        self._check_length()
        self._check_masking(frozen)
        self._cache = SentenceCache()
        if lora is not None:
            add_lora(self.model, lora, 'text_encoder.lora')
        if frozen:
            self.requires_grad_(False)

    def _check_length(self) -> None:
        most = max_positions(self.model)
        if self.max_length < 3:
            raise InputError(
                f'text_encoder.max_length={self.max_length} must be 3 or more, for a word between [CLS] and [SEP]'
            )
        if most is not None and self.max_length > most:
            raise InputError(
                f'text_encoder.max_length={self.max_length} is more than the {most} tokens that the text model '
                f'has positions for (max_position_embeddings={self.model.config.max_position_embeddings})'
            )

    def _check_masking(self, frozen: bool) -> None:
        if not 0 <= self.masked_tokens < 1:
            raise InputError(f'text_encoder.masked_tokens={self.masked_tokens} must be 0 or more and less than 1')
        if self.masked_tokens and frozen:
            raise InputError(
                f'text_encoder.masked_tokens={self.masked_tokens} has no effect with frozen=True, where the text '
                'encoder stays in evaluation mode: leave one of the two out'
            )

    def _check_tokenizer(self, words: int, padding: int) -> None:
        embeddings = self.model.get_input_embeddings().num_embeddings
        if words > embeddings:
            raise InputError(
                f'the tokenizer has {words} tokens, the text model embeds {embeddings}: '
                f'set vocab_size={words} in the text encoder, or give it its own tokenizer'
            )
        table = position_table(self.model)
        if table is not None and table.padding_idx not in (None, padding):
            # MPNet's is fixed.
            settable = self.model.config.model_type != 'mpnet'
            way = f'set pad_token_id={padding} in text_encoder.model, or ' if settable else ''
            raise InputError(
                f'the tokenizer pads with token {padding}, and the text model, whose positions skip padding, '
                f'takes {table.padding_idx} for it: {way}give it its own tokenizer'
            )

    @property
    def reads_padding(self) -> bool:
        """Whether the model attends to padding: its tokenizer gives no attention mask, as SigLIP's."""
        return 'attention_mask' not in self.tokenizer.model_input_names

    @property
    def pads_to_max_length(self) -> bool:
        """Whether every sentence is padded to `max_length` tokens, and not to the longest of the batch."""
        return self.pad_to_max_length or self.reads_padding or not self.mask_text_padding

    def init_weights(self) -> None:
        """Load the checkpoint of `init_cfg`, also from a hub or a folder; without one the weights stay random.

        Raises:
            FileNotFoundError: Neither a file nor a folder, and no hub answers to the name.
            InputError: The weights belong to a model of other sizes.
        """
        pretrained = None if self.is_init else pretrained_init_cfg(self.init_cfg, takes_prefix=True)
        if pretrained is None:
            # Without `init_cfg` weights stay as transformers and peft have initialized them.
            if self.init_cfg:
                super().init_weights()
            return
        checkpoint, prefix = pretrained['checkpoint'], pretrained.get('prefix') or ''
        if '://' in checkpoint or Path(checkpoint).is_file():
            weights = read_weights(checkpoint)
            selected = {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}
            self._load(selected, checkpoint)
        else:
            weights = weights_from_hub(checkpoint, self.model)
            self._load({f'model.{name}': value for name, value in weights.items()}, checkpoint)
        self._is_init = True

    def _load(self, weights: Mapping[str, Tensor], source: str) -> None:
        mismatch = state_dict_mismatch(self, weights, lora_names(self))
        if mismatch:
            raise InputError(f'text weights {source} do not fit text_encoder.model: {mismatch}')
        self.load_state_dict(weights, strict=False)

    def train(self, mode: bool = True) -> 'HuggingFaceTextEncoder':
        """As in `nn.Module`; a frozen text encoder stays in evaluation mode."""
        # Averaged weights may be swapped in between training and validation, which the cache cannot detect.
        self._cache.clear()
        super().train(mode)
        return self

    def forward(self, sentences: Sequence[str]) -> TextFeatures:
        """
        Args:
            sentences: One sentence for each image.

        Returns:
            Features (B, L, `out_channels`) and their mask (B, L). L is the length of the longest sentence; with
            `pad_to_max_length` in training, and always if padding is not masked, it is `max_length`.

        Raises:
            InputError: A sentence is empty or blank.
        """
        self.check_sentences(sentences)
        if self.training:
            return self._encode(sentences)
        distinct = list(dict.fromkeys(sentences))
        if torch.is_grad_enabled():
            # The cache would make a frozen encoder depend on what was encoded before the run was resumed.
            features = self._encode(distinct)
        else:
            features = self._cache(distinct, self._encode, self)
        if len(distinct) == len(sentences):
            return features
        index = index_tensor([distinct.index(sentence) for sentence in sentences], features.tokens.device)
        return TextFeatures(features.tokens[index], features.mask[index])

    def _encode(self, sentences: Sequence[str]) -> TextFeatures:
        """Features of sentences, each encoded even if it occurs twice."""
        device = next(self.model.parameters()).device
        padding = 'max_length' if self.pads_to_max_length else 'longest'
        input_ids, attention_mask = self._tokenize(sentences, padding)
        if self.training and self.masked_tokens:
            input_ids = self._mask(input_ids)
        return self.encode_tokens(*(to_device(values, device) for values in (input_ids, attention_mask)))

    def _mask(self, input_ids: Tensor) -> Tensor:
        """The ids with random tokens of about half of the sentences replaced by the mask token."""
        tokenizer = self.tokenizer
        # CLIP's unknown token is that of the end and of padding, which would end the sentence.
        others = (None, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id)
        usable = [each for each in (tokenizer.mask_token_id, tokenizer.unk_token_id) if each not in others]
        if not usable:
            raise InputError(
                'text_encoder.masked_tokens needs a tokenizer with a mask token, or an unknown token of its own: '
                'leave it out'
            )
        words = ~torch.isin(input_ids, torch.tensor(tokenizer.all_special_ids))
        chosen = torch.rand(len(input_ids), 1) < 0.5
        masked = words & chosen & (torch.rand(input_ids.shape) < self.masked_tokens)
        kept = torch.rand(input_ids.shape).masked_fill(~words, -1.0).argmax(1, keepdim=True)
        return input_ids.masked_fill(masked.scatter(1, kept, False), usable[0])

    def encode_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> TextFeatures:
        """Features of sentences that are tokenized and padded already.

        Args:
            input_ids: Ids of the tokens, (B, L), int64.
            attention_mask: 1 at real tokens, 0 at padding, (B, L), int64.
        """
        attended = torch.ones_like(attention_mask) if self.reads_padding else attention_mask
        tokens = self.model(input_ids=input_ids, attention_mask=attended).last_hidden_state
        mask = attention_mask.bool()
        return TextFeatures(tokens, mask if self.mask_text_padding else torch.ones_like(mask))
