"""The names of our weights in other code bases, as tables of prefixes that are read in both directions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...utils import shorten


@dataclass(frozen=True)
class StateDictMap:
    """A correspondence of state-dict names by prefix; the first prefix that fits decides.

    Attributes:
        prefixes: Pairs of a foreign prefix and ours; `{}` stands for a number, the same on both sides.
        unused: Foreign prefixes that have no counterpart here and are dropped.
        ours_alone: Our prefixes that have no counterpart there and are dropped.
        copies: Pairs of foreign names for one weight that is stored twice; reading needs one of them.
        source: The code base, for messages.
    """

    prefixes: tuple[tuple[str, str], ...]
    unused: tuple[str, ...] = ()
    ours_alone: tuple[str, ...] = ()
    copies: tuple[tuple[str, str], ...] = ()
    source: str = 'another code base'

    def to_ours(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename foreign weights to ours.

        Raises:
            InputError: Names that the map does not know, or copies that differ.
        """
        copies = [copy for _, copy in self.copies]
        weights = {name: value for name, value in self.in_use(state_dict).items() if name not in copies}
        return _rename(weights, self.prefixes)

    def to_theirs(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename our weights to the foreign names.

        Raises:
            InputError: Names that the map does not know.
        """
        weights = {name: value for name, value in state_dict.items() if not name.startswith(self.ours_alone)}
        renamed = _rename(weights, [(ours, theirs) for theirs, ours in self.prefixes])
        return renamed | {copy: renamed[name] for name, copy in self.copies if name in renamed}

    def in_use(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Foreign weights without a wrapper's `module.` and the unused ones, and with both names of each copy.

        Raises:
            InputError: Copies that differ.
        """
        weights = {name.removeprefix('module.'): value for name, value in state_dict.items()}
        weights = {name: value for name, value in weights.items() if not name.startswith(self.unused)}
        for name, copy in self.copies:
            value = weights.get(name, weights.get(copy))
            if value is not None and not torch.equal(weights.setdefault(copy, value), value):
                raise InputError(f'{name} and {copy} differ; SAM has one weight for both')
            if value is not None:
                weights[name] = value
        return weights

    def knows(self, name: str) -> bool:
        """Whether a foreign name is one of this layout."""
        name = name.removeprefix('module.')
        return (
            name.startswith(self.unused)
            or any(name in pair for pair in self.copies)
            or (_match(name, self.prefixes) is not None)
        )


def best_layout(names: Iterable[str]) -> 'StateDictMap | None':
    """The layout that knows most of the names; None if no layout knows any."""
    names = list(map(str, names))
    known = [sum(map(layout.knows, names)) for layout in LAYOUTS]
    return LAYOUTS[known.index(max(known))] if any(known) else None


def find_layout(names: Iterable[str], source: str) -> StateDictMap:
    """The layout that knows most of the names.

    Args:
        names: State-dict names in a file.
        source: The name of the file, for errors.

    Raises:
        InputError: No layout knows any of them.
    """
    names = list(names)
    layout = best_layout(names)
    if layout is None:
        raise InputError(
            f'{source} holds neither SAM nor a model of dit_sam: none of its {len(names)} names is known, '
            f'such as {sorted(names)[0]}'
        )
    return layout


def _rename(state_dict: Mapping[str, Any], prefixes: Iterable[tuple[str, str]]) -> dict[str, Any]:
    renamed, unknown = {}, []
    for name, value in state_dict.items():
        new = _match(name, prefixes)
        if new is None:
            unknown.append(name)
        else:
            renamed[new] = value
    if unknown:
        raise InputError(f'{len(unknown)} names have no counterpart: {shorten(sorted(unknown))}')
    return renamed


def _match(name: str, prefixes: Iterable[tuple[str, str]]) -> str | None:
    """The name with the first matching prefix replaced; None without a match."""
    for old, new in prefixes:
        found = re.match(re.escape(old).replace(r'\{\}', r'(\d+)'), name)
        if found:
            return new.format(*found.groups()) + name[found.end() :]
    return None


# Parts that SAM does not have.
_TEXT = ('text_encoder.', 'backbone.instruction.', 'decode_head.text_proj.')

# segment_anything's `Sam` (sam_vit_{b,l,h}.pth).
SAM = StateDictMap(
    source='segment_anything',
    prefixes=(
        ('image_encoder.pos_embed', 'backbone.pos_embed'),
        ('image_encoder.patch_embed.', 'backbone.patch_embed.'),
        ('image_encoder.blocks.', 'backbone.blocks.'),
        ('image_encoder.neck.', 'backbone.neck.'),
        ('prompt_encoder.', 'decode_head.prompt_encoder.'),
        ('mask_decoder.', 'decode_head.mask_decoder.'),
    ),
    ours_alone=_TEXT,
)

# transformers' `SamModel` (facebook/sam-vit-{base,large,huge}), and SAM's names for the same.
_HUGGING_FACE_TO_SAM = {
    'vision_encoder.pos_embed': 'image_encoder.pos_embed',
    'vision_encoder.patch_embed.projection.': 'image_encoder.patch_embed.proj.',
    'vision_encoder.layers.{}.layer_norm{}.': 'image_encoder.blocks.{}.norm{}.',
    'vision_encoder.layers.{}.attn.': 'image_encoder.blocks.{}.attn.',
    'vision_encoder.layers.{}.mlp.': 'image_encoder.blocks.{}.mlp.',
    'vision_encoder.neck.conv1.': 'image_encoder.neck.0.',
    'vision_encoder.neck.layer_norm1.': 'image_encoder.neck.1.',
    'vision_encoder.neck.conv2.': 'image_encoder.neck.2.',
    'vision_encoder.neck.layer_norm2.': 'image_encoder.neck.3.',
    'shared_image_embedding.positional_embedding': 'prompt_encoder.pe_layer.positional_encoding_gaussian_matrix',
    'prompt_encoder.point_embed.{}.': 'prompt_encoder.point_embeddings.{}.',
    'prompt_encoder.not_a_point_embed.': 'prompt_encoder.not_a_point_embed.',
    'prompt_encoder.no_mask_embed.': 'prompt_encoder.no_mask_embed.',
    'prompt_encoder.mask_embed.conv1.': 'prompt_encoder.mask_downscaling.0.',
    'prompt_encoder.mask_embed.layer_norm1.': 'prompt_encoder.mask_downscaling.1.',
    'prompt_encoder.mask_embed.conv2.': 'prompt_encoder.mask_downscaling.3.',
    'prompt_encoder.mask_embed.layer_norm2.': 'prompt_encoder.mask_downscaling.4.',
    'prompt_encoder.mask_embed.conv3.': 'prompt_encoder.mask_downscaling.6.',
    'mask_decoder.iou_token.': 'mask_decoder.iou_token.',
    'mask_decoder.mask_tokens.': 'mask_decoder.mask_tokens.',
    'mask_decoder.transformer.layers.{}.layer_norm{}.': 'mask_decoder.transformer.layers.{}.norm{}.',
    'mask_decoder.transformer.layers.{}.': 'mask_decoder.transformer.layers.{}.',
    'mask_decoder.transformer.final_attn_token_to_image.': 'mask_decoder.transformer.final_attn_token_to_image.',
    'mask_decoder.transformer.layer_norm_final_attn.': 'mask_decoder.transformer.norm_final_attn.',
    'mask_decoder.upscale_conv1.': 'mask_decoder.output_upscaling.0.',
    'mask_decoder.upscale_layer_norm.': 'mask_decoder.output_upscaling.1.',
    'mask_decoder.upscale_conv2.': 'mask_decoder.output_upscaling.3.',
    'mask_decoder.output_hypernetworks_mlps.{}.proj_in.': 'mask_decoder.output_hypernetworks_mlps.{}.layers.0.',
    'mask_decoder.output_hypernetworks_mlps.{}.layers.0.': 'mask_decoder.output_hypernetworks_mlps.{}.layers.1.',
    'mask_decoder.output_hypernetworks_mlps.{}.proj_out.': 'mask_decoder.output_hypernetworks_mlps.{}.layers.2.',
    'mask_decoder.iou_prediction_head.proj_in.': 'mask_decoder.iou_prediction_head.layers.0.',
    'mask_decoder.iou_prediction_head.layers.0.': 'mask_decoder.iou_prediction_head.layers.1.',
    'mask_decoder.iou_prediction_head.proj_out.': 'mask_decoder.iou_prediction_head.layers.2.',
}
HUGGING_FACE_SAM = StateDictMap(
    source='Hugging Face',
    prefixes=tuple(zip(_HUGGING_FACE_TO_SAM, _rename(dict.fromkeys(_HUGGING_FACE_TO_SAM.values()), SAM.prefixes))),
    copies=(('shared_image_embedding.positional_embedding', 'prompt_encoder.shared_embedding.positional_embedding'),),
    ours_alone=_TEXT,
)

# The `state_dict` of the released DIT checkpoints.
RELEASED_DIT = StateDictMap(
    source='the released DIT',
    prefixes=(
        # Without the number of a layer it is the one P_0 of E-DIT with static tokens.
        ('visual_encoder.probs.weight', 'backbone.instruction.projection.weight'),
        ('visual_encoder.probs.bias', 'backbone.instruction.projection.bias'),
        ('visual_encoder.probs.', 'backbone.instruction.projections.'),
        ('visual_encoder.prob_text.', 'backbone.instruction.text_projection.'),
        ('visual_encoder.tokens', 'backbone.instruction.static_tokens'),
        ('visual_encoder.', 'backbone.'),
        ('prompt_encoder.', 'decode_head.prompt_encoder.'),
        ('mask_decoder.', 'decode_head.mask_decoder.'),
        ('text_proj.', 'decode_head.text_proj.'),
        ('lang_encoder.bert.', 'text_encoder.model.'),
    ),
    # `position_ids`, a range of numbers, was stored by older versions of transformers.
    unused=(
        'query_embeddings',
        'self_attention.',
        'lang_encoder.bert.pooler.',
        'lang_encoder.bert.embeddings.position_ids',
    ),
)

# EVF-SAM's `EvfSamModel` with SAM 1 (YxZhang/evf-sam, evf-sam-multitask).
EVF_SAM = StateDictMap(
    source='EVF-SAM',
    prefixes=(
        ('visual_model.image_encoder.', 'backbone.'),
        ('visual_model.prompt_encoder.', 'decode_head.prompt_encoder.'),
        ('visual_model.mask_decoder.', 'decode_head.mask_decoder.'),
        ('text_hidden_fcs.0.', 'decode_head.text_proj.'),
        ('mm_extractor.', 'text_encoder.'),
    ),
)

# Our own, of tools/train.py and the converters.
OURS = StateDictMap(
    source='dit_sam', prefixes=tuple((part, part) for part in ('backbone.', 'decode_head.', 'text_encoder.'))
)

LAYOUTS = (OURS, SAM, HUGGING_FACE_SAM, RELEASED_DIT, EVF_SAM)
