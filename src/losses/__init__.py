"""Angular penalty (margin) softmax losses. Needs torch alone; installed as `angular_penalty`."""

from .adaptive import ElasticFace, KappaFace
from .binary import P2SGrad, SphereFace2, UniFace
from .class_margins import AdaMSoftmax, DynArcFace, QAMFace
from .compat import AngularPenaltySMLoss
from .errors import BadArgument
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
from .module import ModuleLoss
from .norms import AdaFace, ASoftmax, LSoftmax, MagFace, SphereFaceR
from .proxies import ProxyAnchor, ProxyNCA, SoftTriple
from .reweighted import ArcNegFace, NPCFace, SFace
from .scales import adacos_scale, sufficient_scale
from .softmax import NormFace, Softmax, X2Softmax

__all__ = [
    "ASoftmax",
    "AdaFace",
    "AdaMSoftmax",
    "AddedMarginHead",
    "AngularMarginHead",
    "AngularPenaltySMLoss",
    "ArcFace",
    "ArcNegFace",
    "BadArgument",
    "CircleLoss",
    "CombinedMargin",
    "CosFace",
    "CosineHead",
    "CurricularFace",
    "DynArcFace",
    "ElasticFace",
    "Head",
    "KappaFace",
    "LSoftmax",
    "LiArcFace",
    "MVSoftmax",
    "MagFace",
    "MarginHead",
    "ModuleLoss",
    "NPCFace",
    "NormFace",
    "P2SGrad",
    "ProxyAnchor",
    "ProxyNCA",
    "QAMFace",
    "SFace",
    "SoftTriple",
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
