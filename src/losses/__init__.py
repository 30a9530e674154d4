"""Angular penalty (margin) softmax losses. Needs torch alone; installed as `angular_penalty`."""

from .compat import AngularPenaltySMLoss
from .head import CosineHead, Head, MarginHead
from .margin import ArcFace, CombinedMargin, CosFace, SphereFace
from .scales import adacos_scale, sufficient_scale
from .softmax import NormFace, Softmax

# The names that configurations use; conf/loss/ holds a file for each.
HEADS: dict[str, type[Head]] = {
    "softmax": Softmax,
    "normface": NormFace,
    "cosface": CosFace,
    "arcface": ArcFace,
    "sphereface": SphereFace,
    "combined": CombinedMargin,
}

__all__ = [
    "HEADS",
    "AngularPenaltySMLoss",
    "ArcFace",
    "CombinedMargin",
    "CosFace",
    "CosineHead",
    "Head",
    "MarginHead",
    "NormFace",
    "Softmax",
    "SphereFace",
    "adacos_scale",
    "sufficient_scale",
]
