"""`shapes`: a generated data set of drawn pictures and referring sentences in RefCOCO's own format.

Its generalized variant, in gRefCOCO's form, also has sentences that mean several objects or none.
Nothing here needs torch. `tools/dataset_converters/shapes.py` is the command line.
"""

from .generalized import GENERALIZED_KINDS, GENERALIZED_VOCABULARY, refer_generalized
from .outlines import SHAPES
from .scene import COLOURS, SIZES, TEXTURES, Scene, SceneObject, sample_scene
from .sentences import KINDS, VOCABULARY, refer
from .writer import write_shapes

__all__ = [
    'COLOURS',
    'GENERALIZED_KINDS',
    'GENERALIZED_VOCABULARY',
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
