"""Angular penalty (margin) softmax losses. Needs torch alone; installed as `angular_penalty`."""

from .adaptive import ElasticFace, KappaFace
from .binary import P2SGrad, SphereFace2, UniFace
from .compat import AngularPenaltySMLoss
from .hard import CircleLoss, CurricularFace, MVSoftmax
from .head import CosineHead, Head
from .margin import (
    AddedMarginHead,
    AngularMarginHead,
    ArcFace,
    CombinedMargin,
    CosFace,
    LiArcFace,
    MarginHead,
    SphereFace,
    SubCenterArcFace,
)
from .norms import AdaFace, ASoftmax, LSoftmax, MagFace, SphereFaceR
from .scales import adacos_scale, sufficient_scale
from .softmax import NormFace, Softmax, X2Softmax

__all__ = [
    "ASoftmax",
    "AdaFace",
    "AddedMarginHead",
    "AngularMarginHead",
    "AngularPenaltySMLoss",
    "ArcFace",
    "CircleLoss",
    "CombinedMargin",
    "CosFace",
    "CosineHead",
    "CurricularFace",
    "ElasticFace",
    "Head",
    "KappaFace",
    "LSoftmax",
    "LiArcFace",
    "MVSoftmax",
    "MagFace",
    "MarginHead",
    "NormFace",
    "P2SGrad",
    "Softmax",
    "SphereFace",
    "SphereFace2",
    "SphereFaceR",
    "SubCenterArcFace",
    "UniFace",
    "X2Softmax",
    "adacos_scale",
    "sufficient_scale",
]
