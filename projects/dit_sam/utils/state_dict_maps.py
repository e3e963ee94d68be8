"""How other code bases name the weights of `ReferringSegmentor`: tables of prefixes, read in both directions."""
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class StateDictMap:
    """A correspondence of state-dict names by prefix; the first prefix that fits decides.

    Attributes:
        prefixes: Pairs of a foreign prefix and ours.
        unused: Foreign prefixes that have no counterpart here and are dropped.
    """

    prefixes: tuple[tuple[str, str], ...]
    unused: tuple[str, ...] = ()

    def to_ours(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename foreign weights to ours.

        Raises:
            KeyError: Names that the map does not know, all listed.
        """
        state_dict = {name.removeprefix('module.'): value for name, value in state_dict.items()}
        wanted = {name: value for name, value in state_dict.items() if not name.startswith(self.unused)}
        return _rename(wanted, self.prefixes)

    def to_theirs(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename our weights to the foreign names.

        Raises:
            KeyError: Names that the map does not know, all listed.
        """
        return _rename(state_dict, [(ours, theirs) for theirs, ours in self.prefixes])


def _rename(state_dict: Mapping[str, Tensor], prefixes: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    renamed, unknown = {}, []
    for name, value in state_dict.items():
        match = next(((old, new) for old, new in prefixes if name.startswith(old)), None)
        if match is None:
            unknown.append(name)
        else:
            renamed[match[1] + name[len(match[0]):]] = value
    if unknown:
        raise KeyError(f'{len(unknown)} names have no counterpart: {", ".join(sorted(unknown))}')
    return renamed


# segment_anything's `Sam` (sam_vit_{b,l,h}.pth).
SAM = StateDictMap(
    prefixes=(
        ('image_encoder.pos_embed', 'backbone.pos_embed'),
        ('image_encoder.patch_embed.', 'backbone.patch_embed.'),
        ('image_encoder.blocks.', 'backbone.blocks.'),
        ('image_encoder.neck.', 'backbone.neck.'),
        ('prompt_encoder.', 'decode_head.prompt_encoder.'),
        ('mask_decoder.', 'decode_head.mask_decoder.'),
    ))

# The `state_dict` of the released DIT checkpoints.
RELEASED_DIT = StateDictMap(
    prefixes=(
        ('visual_encoder.probs.', 'backbone.instruction.projections.'),
        ('visual_encoder.prob_text.', 'backbone.instruction.text_projection.'),
        ('visual_encoder.tokens', 'backbone.instruction.static_tokens'),
        ('visual_encoder.', 'backbone.'),
        ('prompt_encoder.', 'decode_head.prompt_encoder.'),
        ('mask_decoder.', 'decode_head.mask_decoder.'),
        ('text_proj.', 'decode_head.text_proj.'),
        ('lang_encoder.bert.', 'text_encoder.model.'),
    ),
    unused=('query_embeddings', 'self_attention.', 'lang_encoder.bert.pooler.'))
