"""Any text model of transformers as the text encoder; BERT by default, as in the paper."""
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedTokenizerBase

from ...errors import InputError
from ...structures import TextFeatures
from ...utils import describe_misfit, pretrained_step, read_weights
from .sentence_cache import SentenceCache
from .tokenizer import build_tokenizer


@MODELS.register_module()
class HuggingFaceTextEncoder(BaseModule):
    """Sentences to the last hidden layer of a transformers text model, [CLS] and [SEP] kept (DIT, section 3.1).

    In evaluation mode a sentence is encoded once for all its places in a batch, and without gradients it is not encoded
    again while it is among those asked for last, see `SentenceCache`.

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
        init_cfg: As in mmengine; see above. With `prefix` only the weights under it are taken from a file.

    Raises:
        InputError: A size is misspelt or impossible, or `max_length` is none that the model has positions for.
        FileNotFoundError: `model` is no folder and no hub answers to it.
    """

    def __init__(self,
                 model: str | dict = dict(model_type='bert'),
                 tokenizer: str | Sequence[str] = 'bert-base-uncased',
                 max_length: int = 20,
                 mask_text_padding: bool = True,
                 frozen: bool = False,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        config = _read_config(model) if isinstance(model, str) else _make_config(model)
        positions = getattr(config, 'max_position_embeddings', None) or max_length
        if not 3 <= max_length <= positions:
            raise InputError(f'text_encoder.max_length={max_length} must be 3 or more, for a word between [CLS] and '
                             f'[SEP], and at most max_position_embeddings={positions} of the text model')
        try:
            self.model = AutoModel.from_config(config)
        except ValueError as error:
            raise InputError(f'text_encoder.model: {_first_line(error)}') from None
        # A pooler sees only [CLS] and would be a parameter without gradient.
        self.model.pooler = None
        self.out_channels = config.hidden_size
        self.max_length, self.mask_text_padding, self.frozen = max_length, mask_text_padding, frozen
        self._tokenizer_source, self._tokenizer, self._warned = tokenizer, None, False
        self._cache = SentenceCache()
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
        """Load `init_cfg`'s checkpoint, also from a hub or a folder; without one the weights stay random.

        Raises:
            FileNotFoundError: Neither a file nor a folder, and no hub answers to the name.
            InputError: The weights belong to a model of other sizes.
        """
        step = pretrained_step(self.init_cfg)
        if step is None:
            super().init_weights()
            return
        checkpoint = step['checkpoint']
        if Path(checkpoint).is_file():
            self._load(_under(step.get('prefix') or '', read_weights(checkpoint)), checkpoint)
        else:
            weights = _from_hub(checkpoint)
            self._load({f'model.{name}': value for name, value in weights.items()}, checkpoint)
        self._is_init = True

    def _load(self, weights: Mapping[str, Tensor], source: str) -> None:
        misfit = describe_misfit(self, weights)
        if misfit:
            raise InputError(f'text weights {source} do not fit text_encoder.model: {misfit}')
        self.load_state_dict(weights)

    def train(self, mode: bool = True) -> 'HuggingFaceTextEncoder':
        """As in `nn.Module`; what is frozen stays in evaluation mode."""
        # Averaged weights are exchanged for these between training and validation, unseen by the cache.
        self._cache.clear()
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
        if self.training:
            return self._encode(sentences)
        distinct = list(dict.fromkeys(sentences))
        if torch.is_grad_enabled():
            # In training a frozen encoder must not depend on what was encoded before the run was resumed.
            features = self._encode(distinct)
        else:
            features = self._cache(distinct, self._encode, self.model)
        if len(distinct) == len(sentences):
            return features
        index = [distinct.index(sentence) for sentence in sentences]
        return TextFeatures(features.tokens[index], features.mask[index])

    def _encode(self, sentences: Sequence[str]) -> TextFeatures:
        """As `forward`, every sentence by itself."""
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


def _make_config(model: Mapping) -> PretrainedConfig:
    """The configuration of `text_encoder.model`; transformers would keep unknown sizes without using them."""
    try:
        known = AutoConfig.for_model(model['model_type'])
        unknown = [key for key in model if not hasattr(known, key)]
        if not unknown:
            return AutoConfig.for_model(**model)
    except KeyError:
        raise InputError("text_encoder.model lacks model_type, such as 'bert'") from None
    except (TypeError, ValueError) as error:
        # Where the type is unknown, all that are known follow.
        raise InputError(f'text_encoder.model: {_first_line(error)[:200]}') from None
    near = get_close_matches(unknown[0], known.to_dict(), n=1)
    raise InputError(f'text_encoder.model.{unknown[0]} is no size of {model["model_type"]}'
                     f'{f"; did you mean {near[0]}?" if near else ""}')


def _read_config(folder: str) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f'no text model at {folder!r}: it is no folder with a config.json, and no hub answers '
                                f'to that name ({_first_line(error)})') from None


def _from_hub(checkpoint: str) -> dict[str, Tensor]:
    """Weights of a hub or of a folder in its layout, less the pooler."""
    try:
        # transformers 5 takes the file's type where none is named; half precision must not slip in.
        loaded = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f'no text weights at {checkpoint!r}: it is no file, no folder with safetensors, and no hub answers to '
            f'that name. On a machine with a network: `hf download {checkpoint} --local-dir {checkpoint}`, then '
            'copy that folder here') from error
    loaded.pooler = None
    return loaded.state_dict()


def _under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
