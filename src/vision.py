"""The one place that imports torchvision, which not every torch lets it be imported beside.

The common torchvision wheel is compiled against CUDA. Beside a CPU-only torch its compiled operators
cannot load, and `import torchvision` stops at registering shapes for two operators that do not exist.
Declaring the two lets datasets, transforms and models work; nothing here calls them.
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
    _declared = torch.library.Library("torchvision", "FRAGMENT")  # lives as long as this module
    for operator in ("nms", "qnms"):
        _declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

datasets = torchvision.datasets
models = torchvision.models

__all__ = ["datasets", "models"]
