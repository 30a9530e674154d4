"""The only module that imports torchvision, because a plain import fails beside some builds of torch.

The usual torchvision wheel is compiled against CUDA. Beside a CPU-only torch its compiled operators
cannot load, and the import then fails because it registers shapes for two operators that do not exist.
Declaring these two makes datasets, transforms and models work; nothing here calls them.
"""

import sys

import torch

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _declared = torch.library.Library("torchvision", "FRAGMENT")  # has to live as long as this module
    for operator in ("nms", "qnms"):
        _declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

datasets = torchvision.datasets
models = torchvision.models
transforms = torchvision.transforms

__all__ = ["datasets", "models", "transforms"]
