"""`shapes`: a generated data set of drawn pictures and referring sentences in RefCOCO's format.

Its generalized variant, in gRefCOCO's format, also has sentences that mean several objects or none. Its hard variant
has more objects that look alike, and sentences with two relations. Nothing here needs torch.
`tools/dataset_converters/shapes.py` is the command line.
"""

from .generalized_grammar import GENERALIZED_KINDS, GENERALIZED_VOCABULARY, refer_generalized
from .hard_grammar import HARD_KINDS
from .polygons import SHAPES
from .scene_sampling import COLORS, SIZES, TEXTURES, Scene, SceneObject, sample_scene
from .single_target import KINDS, VOCABULARY, refer
from .writer import write_shapes

__all__ = [
    'COLORS',
    'GENERALIZED_KINDS',
    'GENERALIZED_VOCABULARY',
    'HARD_KINDS',
    'KINDS',
    'SHAPES',
    'SIZES',
    'TEXTURES',
    'VOCABULARY',
    'Scene',
    'SceneObject',
    'refer',
    'refer_generalized',
    'sample_scene',
    'write_shapes',
]
