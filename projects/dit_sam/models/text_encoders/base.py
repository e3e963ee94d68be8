"""What text encoders share: a tokenizer that is opened at the first sentence, and weights that may be frozen."""

import threading
from collections.abc import Sequence

from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...errors import InputError
from .tokenizer import build_tokenizer

# For all models: one of its own could neither be copied nor pickled.
_LOCK = threading.RLock()


class TextEncoder(BaseModule):
    """Base class of the text encoders.

    Args:
        tokenizer: See `build_tokenizer`.
        max_length: Longest sentence in tokens, special ones included.
        cuts: Whether the rest of a longer sentence is cut off, with one warning. With False it is refused.
        frozen: Whether the weights are frozen; the encoder then stays in evaluation mode.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        tokenizer: str | Sequence[str],
        max_length: int,
        cuts: bool = True,
        frozen: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.max_length, self.cuts, self.frozen = max_length, cuts, frozen
        self._tokenizer_source, self._warned = tokenizer, False
        self._tokenizer: PreTrainedTokenizerBase | None = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, opened at its first use.

        Raises:
            InputError: It does not belong to the model.
        """
        if self._tokenizer is None:
            self._tokenizer = build_tokenizer(self._tokenizer_source)
            self._check_tokenizer(len(self._tokenizer), self._tokenizer.pad_token_id)
        return self._tokenizer

    def _check_tokenizer(self, words: int, padding: int) -> None:
        """Raise `InputError` if a tokenizer with this number of tokens and this padding is not the model's."""

    def train(self, mode: bool = True) -> 'TextEncoder':
        """As in `nn.Module`; a frozen text encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    @staticmethod
    def check_sentences(sentences: Sequence[str]) -> None:
        """Raise `InputError` if a sentence is empty or blank, or is none, or if there is no sentence."""
        if isinstance(sentences, str) or not sentences:
            raise InputError(f'{sentences!r} is no list of sentences: give one sentence for each image')
        other = next((sentence for sentence in sentences if not isinstance(sentence, str)), None)
        if other is not None:
            raise InputError(f'{other!r} is a {type(other).__name__}: give one sentence for each image, a str')
        blank = [i for i, sentence in enumerate(sentences) if not sentence.strip()]
        if blank:
            raise InputError(f'sentence {blank[0]} of {len(sentences)} is empty: say what to segment')

    def lengths(self, sentences: Sequence[str]) -> list[int]:
        """The number of tokens of each sentence; see `ids`."""
        return [len(ids) for ids in self.ids(sentences)]

    def ids(self, sentences: Sequence[str]) -> list[list[int]]:
        """The tokens of each sentence before it is cut, with those that the tokenizer adds."""
        with _LOCK:
            return self.tokenizer(list(sentences))['input_ids']

    def _tokenize(self, sentences: Sequence[str], padding: str = 'longest') -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, (B, L), of at most `max_length` tokens.

        Raises:
            InputError: A sentence is longer, and is not to be cut.
        """
        settings = dict(truncation=True, max_length=self.max_length, return_attention_mask=True, return_tensors='pt')
        if not (self.cuts and self._warned):
            self._check_lengths(self.lengths(sentences))
        # A fast tokenizer keeps the settings of a call, which another thread may replace meanwhile.
        with _LOCK:
            batch = self.tokenizer(list(sentences), padding=padding, **settings)
        # Models use token type 0 if none is given, which is right for a single sentence.
        return batch['input_ids'], batch['attention_mask']

    def _check_lengths(self, lengths: Sequence[int]) -> None:
        longest = max(lengths)
        if longest <= self.max_length:
            return
        if not self.cuts:
            raise InputError(
                f'sentence {lengths.index(longest)} of {len(lengths)} has {longest} tokens, the text encoder has '
                f'positions for {self.max_length}: shorten it, or set text_encoder.max_length, which cuts sentences off'
            )
        self._warned = True
        MMLogger.get_current_instance().warning(
            f'a sentence has more than max_length={self.max_length} tokens; the rest is cut off (warned once)'
        )
