"""Angular penalty (margin) softmax losses. Needs torch alone; installed as `angular_penalty`."""

from .adaptive import ElasticFace, KappaFace
from .binary import P2SGrad, SphereFace2, UniFace
from .compat import AngularPenaltySMLoss
from .hard import CircleLoss, CurricularFace, MVSoftmax
from .head import CosineHead, Head, MarginHead
from .margin import ArcFace, CombinedMargin, CosFace, SphereFace, SubCenterArcFace
from .norms import AdaFace, ASoftmax, LSoftmax, MagFace, SphereFaceR
from .scales import adacos_scale, sufficient_scale
from .softmax import NormFace, Softmax, X2Softmax

# The names that configurations use; conf/loss/ holds a file for each, with its published settings.
HEADS: dict[str, type[Head]] = {
    "softmax": Softmax,
    "normface": NormFace,
    "lsoftmax": LSoftmax,
    "asoftmax": ASoftmax,
    "sphereface": SphereFace,
    "sphereface_r": SphereFaceR,
    "sphereface2": SphereFace2,
    "cosface": CosFace,
    "arcface": ArcFace,
    "combined": CombinedMargin,
    "subcenter_arcface": SubCenterArcFace,
    "curricularface": CurricularFace,
    "mv_arc": MVSoftmax,
    "mv_am": MVSoftmax,
    "magface": MagFace,
    "elasticface_arc": ElasticFace,
    "elasticface_cos": ElasticFace,
    "adaface": AdaFace,
    "circle": CircleLoss,
    "uniface": UniFace,
    "kappaface": KappaFace,
    "x2softmax": X2Softmax,
    "p2sgrad": P2SGrad,
}

__all__ = [
    "HEADS",
    "ASoftmax",
    "AdaFace",
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
