"""Sentences that were encoded already."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ...structures import TextFeatures
from ..layers import spot_values


class SentenceCache:
    """The features of the sentences that were asked for last, without gradients, of a model that rests.

    Where the model has other weights than before, or computes in another precision, all is forgotten. Of weights that
    were made in `torch.inference_mode`, which do not tell that they were written to, nothing is kept.

    Args:
        size: Most sentences that are kept. Of BERT-base, 1024 sentences of 20 tokens take 63 MB.
    """

    def __init__(self, size: int = 1024) -> None:
        self.size, self._state = size, None
        self._kept: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def __call__(
        self, sentences: Sequence[str], encode: Callable[[list[str]], TextFeatures], model: nn.Module
    ) -> TextFeatures:
        """Features of sentences, of which no two are the same.

        Args:
            sentences: The sentences.
            encode: What gives the features of those that are not known, by `model`.
            model: Whose weights count.
        """
        if any(weight.is_inference() for weight in model.parameters()):
            return encode(list(sentences))
        state = _state_of(model)
        if state != self._state:
            self._state = state
            self.clear()
        # Taken out and put back at the end: what was not asked for longest stands first.
        known = {sentence: self._kept.pop(sentence) for sentence in sentences if sentence in self._kept}
        missing = [sentence for sentence in sentences if sentence not in known]
        if missing:
            known.update(zip(missing, _rows(encode(missing))))
        self._kept.update(known)
        while len(self._kept) > self.size:
            self._kept.popitem(last=False)
        tokens, masks = zip(*(known[sentence] for sentence in sentences))
        return TextFeatures(pad_sequence(tokens, batch_first=True), pad_sequence(masks, batch_first=True))


def _rows(features: TextFeatures) -> list[tuple[Tensor, Tensor]]:
    """Tokens (n, D_t) and mask (n,) of each sentence without the padding behind it."""
    places = torch.arange(1, features.mask.shape[1] + 1, device=features.mask.device)
    lengths = (features.mask * places).amax(1).tolist()
    # Copies: a view would keep the whole batch.
    return [
        (tokens[:length].clone(), mask[:length].clone())
        for tokens, mask, length in zip(features.tokens, features.mask, lengths)
    ]


def _state_of(model: nn.Module) -> tuple[Any, ...]:
    """What differs where the weights were replaced or written to, or autocast is another."""
    weights = list(model.parameters())
    probe = weights[0].new_ones(1, 1)
    return (
        torch.mm(probe, probe).dtype,
        spot_values(weights),
        *((weight.data_ptr(), weight._version) for weight in weights),
    )
