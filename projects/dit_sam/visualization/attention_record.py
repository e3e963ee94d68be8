"""Forward hooks that record the attention between text and image.

Shapes: B pairs, L text tokens, T decoder tokens (its own, those of points and boxes, then the text's), h × w visual
tokens.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..models.decode_heads.mask_decoder import PairedMaskDecoder
from ..models.instructions import CrossAttentionInstruction
from ..models.layers import InstructedAttention, window_unpartition
from ..structures import TextFeatures
from .attention_weights import cross_weights, text_weights, visual_weights


class AttentionRecorder:
    """The attention of each layer, mean over its heads, for the first pair of a batch and the last call.

    Attributes:
        maps: By layer, in the order of execution: `to_text`, the share that visual tokens give to each text token, and
            `to_image`, the share that each text token gives to visual tokens, (L, h, w), in the decoder (T, h, w).
        length: Number of text tokens L, padding included.
    """

    def __init__(self) -> None:
        self.maps: dict[str, dict[str, np.ndarray]] = {}
        self.length = 0

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Context in which the calls of a `ReferringSegmentor` are recorded."""
        with ExitStack() as stack:
            for module, note in self._notes(model):
                stack.callback(module.register_forward_hook(note, with_kwargs=True).remove)
            yield

    def _notes(self, model: nn.Module) -> Iterator[tuple[nn.Module, Callable]]:
        """The modules to watch, each with the hook for it."""
        yield cast(nn.Module, model.text_encoder), self._note_length
        blocks = 0
        # One token for the whole sentence has no words.
        by_words = not getattr(model.decode_head, 'pooled_prompt', False)
        for module in model.modules():
            if isinstance(module, CrossAttentionInstruction):
                yield module, _hook(self._note_instruction)
            elif isinstance(module, InstructedAttention):
                yield module, _hook(self._note_block, f'encoder.{blocks}')
                blocks += 1
            elif isinstance(module, PairedMaskDecoder) and by_words:
                yield module, _hook(self._unflatten)
                for i, layer in enumerate(module.transformer.layers):
                    yield layer.cross_attn_token_to_image, _hook(self._note_decoder, f'decoder.{i}', 'to_image')
                    yield layer.cross_attn_image_to_token, _hook(self._note_decoder, f'decoder.{i}', 'to_text')
                last = module.transformer.final_attn_token_to_image
                yield last, _hook(self._note_decoder, 'decoder.final', 'to_image')

    def _put(self, name: str, direction: str, maps: Tensor) -> None:
        self.maps.setdefault(name, {})[direction] = maps[0].float().cpu().numpy()

    def _note_length(self, module: nn.Module, args: tuple, keywords: dict, output: TextFeatures) -> None:
        self.length = output.mask.shape[1]

    def _note_block(
        self,
        name: str,
        attention: InstructedAttention,
        x: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        keep_text: bool = False,
        norm: Callable[[Tensor], Tensor] = nn.Identity(),
    ) -> None:
        if text is None:
            return
        length, size, window = text.shape[1], x.shape[1:3], attention.window_size
        heads = (head[..., :length] for head in visual_weights(attention, x, text, text_mask, norm))
        # Added head by head, because all at once take too much memory.
        weights = sum(heads, torch.zeros(())).unflatten(1, (window, window) if window else size) / attention.num_heads
        weights = window_unpartition(weights, (size[0], size[1])) if window else weights
        self._put(name, 'to_text', weights.permute(0, 3, 1, 2))
        if keep_text:
            weights = text_weights(attention, x, text, text_mask, norm).mean(1)
            self._put(name, 'to_image', weights[..., length:].unflatten(2, size))

    def _note_instruction(
        self,
        instruction: CrossAttentionInstruction,
        layer: int,
        text: Tensor,
        previous: Tensor | None,
        visual: Tensor,
        mask: Tensor | None = None,
    ) -> None:
        weights = cross_weights(instruction.layers[str(layer)], text, visual.flatten(1, 2)).mean(1)
        self._put(f'encoder.{layer}', 'to_image', weights.unflatten(2, visual.shape[1:3]))

    def _note_decoder(
        self,
        name: str,
        direction: str,
        attention: nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        key_mask: Tensor | None = None,
    ) -> None:
        weights = cross_weights(attention, q, k, key_mask).mean(1)
        self._put(name, direction, weights if direction == 'to_image' else weights.transpose(1, 2))

    def _unflatten(self, decoder: PairedMaskDecoder, image: Tensor, *others: Tensor | None) -> None:
        """Reshape the decoder's maps from (T, h · w) to (T, h, w), after its last layer."""
        for maps in (maps for name, maps in self.maps.items() if name.startswith('decoder.')):
            maps.update({direction: values.reshape(-1, *image.shape[2:]) for direction, values in maps.items()})


def _hook(note: Callable, *arguments: str) -> Callable:
    """A forward hook that calls `note` with `arguments`, the module and its inputs."""

    @torch.no_grad()
    def hook(module: nn.Module, args: tuple, keywords: dict, output: Tensor | tuple) -> None:
        note(*arguments, module, *args, **keywords)

    return hook
