"""BEiT-3 as the text encoder of EVF-SAM: it reads the sentence together with the image."""

import re
from collections.abc import Mapping, Sequence

import torch
from mmengine.model.weight_init import trunc_normal_
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...compat import to_device
from ...errors import InputError
from ...structures import TextFeatures
from ...utils import read_weights, state_dict_mismatch
from ..layers import resize
from ..lora import add_lora, lora_names
from ..weights import pretrained_init_cfg
from .base import TextEncoder
from .beit3 import UNUSED_POSITIONS, BEiT3

# Prefixes of BEiT-3's names in its own files, EVF-SAM's and ours.
_PREFIXES = ('beit3.', 'mm_extractor.beit3.', 'text_encoder.beit3.')
# The word before a sentence that asks for all pixels of a category, in models that were trained with it.
SEMANTIC = '[semantic]'


@MODELS.register_module()
class BEiT3TextEncoder(TextEncoder):
    """BEiT-3's features of a sentence and its image (EVF-SAM, arXiv 2406.20076).

    `TextFeatures.tokens` are the text tokens after all layers, which have attended to the image; `pooled` is the visual
    class token, EVF-SAM's prompt. Padding is masked.

    Args:
        arch: 'base', 'large', or a dict of `embed_dims`, `depth`, `num_heads`, `hidden_dims`.
        img_size: Side of its images, made by the transform `AddTextEncoderImage`.
        patch_size: Side of a patch.
        vocab_size: Rows of the text table.
        max_positions: Rows of the text's position table; a sentence may have two tokens less.
        tokenizer: See `build_tokenizer`.
        max_length: Longest sentence in tokens; the rest is cut off, with one warning. None refuses sentences that are
            longer than the position table.
        frozen: Whether the weights are frozen.
        with_cp: Whether activations are recomputed in the backward pass to save memory.
        lora: Keywords of `peft.LoraConfig`, such as dict(r=8, target_modules=['q_proj.A', 'q_proj.B']). Low-rank
            weights then train in place of BEiT-3's own.
        init_cfg: As in mmengine. `checkpoint` is BEiT-3's own file (`beit3_large_patch16_224.pth`), whose heads are
            left out, EVF-SAM's, or one of this project.

    Raises:
        InputError: `arch` or `lora` is invalid, or `max_length` is longer than the position table.
    """

    ARCHITECTURES = {
        'base': dict(embed_dims=768, depth=12, num_heads=12, hidden_dims=3072),
        'large': dict(embed_dims=1024, depth=24, num_heads=16, hidden_dims=4096),
    }

    @torch.inference_mode(False)  # as in ReferringSegmentor
    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int = 224,
        patch_size: int = 16,
        vocab_size: int = 64010,
        max_positions: int = 1024,
        tokenizer: str | Sequence[str] = 'YxZhang/evf-sam',
        max_length: int | None = None,
        frozen: bool = False,
        with_cp: bool = False,
        lora: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        most = max_positions - UNUSED_POSITIONS
        longest = most if max_length is None else max_length
        super().__init__(tokenizer, longest, max_length is not None, frozen, init_cfg)
        if not 3 <= self.max_length <= most:
            raise InputError(f'text_encoder.max_length={max_length} must be 3 to {most}, as there are positions for')
        sizes = self._sizes(arch)
        self.beit3 = BEiT3(
            **sizes,
            img_size=img_size,
            patch_size=patch_size,
            vocab_size=vocab_size,
            max_positions=max_positions,
            with_cp=with_cp,
        )
        self.out_channels = sizes['embed_dims']
        if lora is not None:
            self.requires_grad_(False)
            add_lora(self.beit3.encoder.layers, lora, 'text_encoder.lora')
        if frozen:
            self.requires_grad_(False)

    def _sizes(self, arch: str | dict) -> dict:
        if isinstance(arch, str) and arch in self.ARCHITECTURES:
            return self.ARCHITECTURES[arch]
        keys = self.ARCHITECTURES['base'].keys()
        if isinstance(arch, str) or arch.keys() != keys:
            raise InputError(
                f'text_encoder.arch={arch!r} must be one of {sorted(self.ARCHITECTURES)}, or a dict of {list(keys)}'
            )
        return arch

    def _check_tokenizer(self, words: int, padding: int) -> None:
        rows = self.beit3.text_embed.num_embeddings
        if words > rows:
            raise InputError(
                f'the tokenizer has {words} tokens, BEiT-3 embeds {rows}: set text_encoder.vocab_size={words}, or give '
                'it its own tokenizer'
            )

    def init_weights(self) -> None:
        """Truncated normals of 0.02, as in BEiT; then the checkpoint of `init_cfg`.

        Raises:
            FileNotFoundError: There is no such file.
            InputError: The file holds no BEiT-3, or one of another size.
        """
        if self.is_init:
            return
        for name, module in self.beit3.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)) and 'lora_' not in name:
                trunc_normal_(module.weight, std=0.02)
        trunc_normal_(self.beit3.vision_embed.cls_token, std=0.02)
        pretrained = pretrained_init_cfg(self.init_cfg)
        if pretrained is None:
            super().init_weights()
            return
        self._load(read_weights(pretrained['checkpoint']), pretrained['checkpoint'])
        self._is_init = True

    def _load(self, weights: Mapping[str, Tensor], source: str) -> None:
        prefix = next((prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in weights)), None)
        if prefix is None:
            raise InputError(f'{source} holds no BEiT-3: none of its {len(weights)} names begins with {_PREFIXES[0]}')
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        self._check_size(own, source)
        visual = 'encoder.embed_positions.A.weight'
        if visual in own:
            own[visual] = _resized_positions(own[visual], len(self.beit3.state_dict()[visual]))
        mismatch = state_dict_mismatch(self.beit3, own, lora_names(self.beit3))
        if mismatch:
            raise InputError(f'BEiT-3 weights {source} do not fit text_encoder: {mismatch}')
        self.beit3.load_state_dict(own, strict=False)

    def _check_size(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Raise `InputError` if the weights have another width or number of layers."""
        matches = (re.match(r'encoder\.layers\.(\d+)\.', name) for name in weights)
        layers = {int(match[1]) for match in matches if match}
        table = weights.get('text_embed.weight')
        if table is None or not layers:
            return
        found, asked = (table.shape[-1], max(layers) + 1), (self.out_channels, len(self.beit3.encoder.layers))
        if found != asked:
            names = {(sizes['embed_dims'], sizes['depth']): name for name, sizes in self.ARCHITECTURES.items()}
            theirs, ours = (
                repr(names[size]) if size in names else f'{size[0]} channels in {size[1]} layers'
                for size in (found, asked)
            )
            raise InputError(
                f'BEiT-3 weights {source} are {theirs}, and text_encoder.arch asks for {ours}: change arch, or name '
                'weights of that size'
            )

    def forward(self, sentences: Sequence[str], images: Tensor) -> TextFeatures:
        """
        Args:
            sentences: One sentence for each image.
            images: Images made by `AddTextEncoderImage`, (B, 3, img_size, img_size).

        Returns:
            Fused text tokens of width `out_channels`, padded to the longest sentence, and the visual class token.

        Raises:
            InputError: A sentence is empty or too long, an image has another size, or a sentence begins with
                `[semantic]` and the tokenizer does not have that word.
        """
        self.check_sentences(sentences)
        self._check_semantic(sentences)
        ids, attention_mask = self._tokenize(sentences)
        ids, attention_mask = (to_device(values, images.device) for values in (ids, attention_mask))
        return self.encode_tokens(ids, attention_mask, images)

    def encode_tokens(self, input_ids: Tensor, attention_mask: Tensor, images: Tensor) -> TextFeatures:
        """Features of sentences that are tokenized and padded already.

        Args:
            input_ids: Ids of the tokens, (B, L), int64.
            attention_mask: 1 at real tokens, 0 at padding, (B, L), int64.
            images: As in `forward`.
        """
        side = self.beit3.img_size
        if images.shape[2:] != (side, side):
            raise InputError(
                f'images of {tuple(images.shape[2:])} for BEiT-3, which takes {side}×{side}: set size={side} in '
                'AddTextEncoderImage'
            )
        mask = attention_mask.bool()
        tokens = self.beit3(images, input_ids, mask)
        return TextFeatures(tokens[:, -input_ids.shape[1] :], mask, tokens[:, 0])

    def _check_semantic(self, sentences: Sequence[str]) -> None:
        for asked in (sentence for sentence in sentences if SEMANTIC in sentence.lower()):
            token = self.tokenizer.get_vocab().get(SEMANTIC)
            if token is None:
                raise InputError(
                    f'{asked!r}: this model does not know {SEMANTIC}, which only the multitask weights were trained '
                    'with; leave it out, or use evf-sam-multitask'
                )
            if token not in self.ids([asked])[0]:
                raise InputError(f'{asked!r}: write {SEMANTIC} in small letters; the tokenizer does not find its token')


def _resized_positions(table: Tensor, rows: int) -> Tensor:
    """A table of visual positions, (2 + 1 + side², D), for another grid: bicubic, as BEiT-3's own fine-tuning does."""
    kept = UNUSED_POSITIONS + 1
    old, new = (int(number**0.5) for number in (len(table) - kept, rows - kept))
    if len(table) == rows or old * old != len(table) - kept or new * new != rows - kept:
        return table
    grid = table[kept:].t().unflatten(1, (old, old))[None]
    resized = resize(grid, (new, new), 'bicubic', align_corners=False)[0].flatten(1).t().to(table.dtype)
    return torch.cat([table[:kept], resized])
