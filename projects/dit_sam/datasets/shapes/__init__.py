"""`shapes`: a generated data set of drawn pictures and referring sentences in RefCOCO's own format.

Nothing here needs torch. `tools/dataset_converters/shapes.py` is the command line.
"""
from .outlines import SHAPES
from .scene import COLOURS, SIZES, TEXTURES, Scene, SceneObject, sample_scene
from .sentences import KINDS, VOCABULARY, refer
from .writer import write_shapes

__all__ = [
    'COLOURS', 'KINDS', 'SHAPES', 'SIZES', 'TEXTURES', 'VOCABULARY', 'Scene', 'SceneObject', 'refer', 'sample_scene',
    'write_shapes'
]
