"""Any text model of transformers as the text encoder; BERT by default, as in the paper."""
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerBase

from ...errors import InputError
from ...structures import TextFeatures
from .tokenizer import build_tokenizer


@MODELS.register_module()
class HuggingFaceTextEncoder(BaseModule):
    """Sentences to the last hidden layer of a transformers text model, [CLS] and [SEP] kept (DIT, section 3.1).

    The constructor reads no weights: it builds the model from its sizes. Weights come by `init_cfg`, whose checkpoint
    may be a hub name or a folder in the hub's layout as well as a file; the tokenizer is opened at the first sentence.

    Args:
        model: Sizes of the model: the keywords of its transformers configuration with `model_type` ('bert' without
            further keywords is BERT-base-uncased), or a folder or hub name to read the configuration from.
        tokenizer: See `build_tokenizer`.
        max_length: Longest sentence in tokens, special ones included; the rest is cut off, with one warning.
        mask_text_padding: Whether padding tokens are marked as such. False pads every sentence to `max_length` and
            passes the padding on as if it were text, as the released DIT code does.
        frozen: Whether the weights are kept as they are; the model then stays in evaluation mode.
        init_cfg: As in mmengine; see above.
    """

    def __init__(self,
                 model: str | dict = dict(model_type='bert'),
                 tokenizer: str | Sequence[str] = 'bert-base-uncased',
                 max_length: int = 20,
                 mask_text_padding: bool = True,
                 frozen: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        config = AutoConfig.from_pretrained(model) if isinstance(model, str) else AutoConfig.for_model(**model)
        self.model = AutoModel.from_config(config)
        # A pooler sees only [CLS] and would be a parameter without gradient.
        self.model.pooler = None
        self.out_channels = config.hidden_size
        self.max_length, self.mask_text_padding, self.frozen = max_length, mask_text_padding, frozen
        self._tokenizer_source, self._tokenizer, self._warned = tokenizer, None, False
        if frozen:
            self.requires_grad_(False)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, opened at its first use."""
        if self._tokenizer is None:
            self._tokenizer = build_tokenizer(self._tokenizer_source)
            words, embeddings = len(self._tokenizer), self.model.get_input_embeddings().num_embeddings
            if words > embeddings:
                raise InputError(f'the tokenizer has {words} tokens, the text model embeds {embeddings}: '
                                 f'set vocab_size={words} in the text encoder, or give it its own tokenizer')
        return self._tokenizer

    def init_weights(self) -> None:
        """Load `init_cfg`'s checkpoint, also from a hub or a folder; without one the weights stay random."""
        checkpoint = (self.init_cfg or {}).get('checkpoint')
        if checkpoint is None or Path(checkpoint).is_file():
            super().init_weights()
            return
        try:
            # transformers 5 takes the file's type where none is named; half precision must not slip in.
            loaded = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f'no text weights at {checkpoint!r}: it is no file, no folder with safetensors, and no hub answers to '
                f'that name. On a machine with a network: `hf download {checkpoint} --local-dir {checkpoint}`, then '
                'copy that folder here') from error
        loaded.pooler = None
        self.model.load_state_dict(loaded.state_dict())
        self._is_init = True

    def train(self, mode: bool = True) -> 'HuggingFaceTextEncoder':
        """As in `nn.Module`; what is frozen stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, sentences: Sequence[str]) -> TextFeatures:
        """
        Args:
            sentences: One sentence for each image.

        Returns:
            Features of width `out_channels`, padded to the longest sentence.

        Raises:
            InputError: A sentence is empty or blank.
        """
        blank = [i for i, sentence in enumerate(sentences) if not sentence.strip()]
        if blank:
            raise InputError(f'sentence {blank[0]} of {len(sentences)} is empty: say what to segment')
        batch = self._tokenize(sentences)
        batch = {name: values.to(next(self.model.parameters()).device) for name, values in batch.items()}
        tokens = self.model(**batch).last_hidden_state
        mask = batch['attention_mask'].bool()
        return TextFeatures(tokens, mask if self.mask_text_padding else torch.ones_like(mask))

    def _tokenize(self, sentences: Sequence[str]) -> dict[str, torch.Tensor]:
        """Token ids and attention mask, (B, L), cut to `max_length`."""
        if not self._warned and max(len(ids) for ids in self.tokenizer(list(sentences))['input_ids']) > self.max_length:
            self._warned = True
            MMLogger.get_current_instance().warning(
                f'a sentence has more than max_length={self.max_length} tokens; the rest is cut off (said once)')
        return dict(
            self.tokenizer(
                list(sentences),
                padding='longest' if self.mask_text_padding else 'max_length',
                truncation=True,
                max_length=self.max_length,
                return_tensors='pt'))
