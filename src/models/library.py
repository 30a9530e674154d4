"""Bodies from torchvision and timm, by their names there."""

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..errors import UserError

SMALL = 64  # pixels; below, a stem that halves the image twice leaves too little
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, deviation of pixels in 0…1


def torchvision_body(
    name: str, image_shape: tuple[int, int, int], pretrained: bool, fetch: bool = True, **options
) -> nn.Module:
    """torchvision's model `name` without its classifier, its stem as the images need it."""
    from ..vision import models

    with _download(name, pretrained):
        net = models.get_model(name, weights="DEFAULT" if pretrained and fetch else None, **options)
    linear = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:  # SqueezeNet's classes come out of a convolution
        raise UserError(f"model.name={name}: has no linear classifier to take embeddings from instead")
    parent, _, attribute = linear[-1].rpartition(".")
    setattr(net.get_submodule(parent), attribute, nn.Identity())
    for auxiliary in ("aux1", "aux2", "AuxLogits"):  # classifiers of their own, in training
        if hasattr(net, auxiliary):
            setattr(net, auxiliary, None)
            net.aux_logits = False
    net.transform_input = False  # ImageNet's normalisation a second time
    return _fitted(net, image_shape, pretrained, IMAGENET)


def timm_body(
    name: str, image_shape: tuple[int, int, int], pretrained: bool, fetch: bool = True, **options
) -> nn.Module:
    """timm's model `name` without its classifier, its stem as the images need it."""
    timm = _timm()
    channels = {"in_chans": image_shape[0]}  # learned weights of the first layer are adapted by timm
    with _download(name, pretrained):
        net = timm.create_model(name, pretrained and fetch, num_classes=0, **channels, **options)
    settings = net.pretrained_cfg
    return _fitted(net, image_shape, pretrained, (settings["mean"], settings["std"]))


# The names that configurations use; conf/model/ holds a file for each.
LIBRARIES = {"torchvision": torchvision_body, "timm": timm_body}


@functools.cache
def library_names(library: str) -> tuple[str, ...]:
    """The names of a library's image classifiers. Raises UserError if it is not installed."""
    if library == "torchvision":
        from ..vision import models

        return tuple(models.list_models(module=models))
    timm = _timm()
    return tuple(timm.list_models() + timm.list_pretrained())


def _timm():
    from .. import vision  # noqa: F401, timm imports torchvision, which has to be imported there first

    try:
        import timm
    except ImportError:
        raise UserError("model=timm: timm is not installed, pip install -e '.[timm]'") from None
    return timm


@contextmanager
def _download(name: str, pretrained: bool) -> Iterator[None]:
    """Names the key, where a download of weights fails."""
    try:
        yield
    except Exception as error:  # whatever a network stack raises
        if not pretrained or isinstance(error, TypeError):
            raise
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise UserError(
            f"model.pretrained=true: the weights of {name} could not be had ({reason[0]}); with a "
            "network they are downloaded once, model.pretrained=false does without"
        ) from error


def _fitted(net: nn.Module, image_shape: tuple[int, int, int], pretrained: bool, normal) -> nn.Module:
    """The first convolution takes as many channels as there are, and small images are not halved in the
    stem. What was learned is kept: of grey, the sum over the colours, as if it were shown in all
    three."""
    channels, height, width = image_shape
    path, conv = next(
        (path, module) for path, module in net.named_modules() if isinstance(module, nn.Conv2d)
    )
    small = min(height, width) < SMALL
    patches = conv.stride == conv.kernel_size  # of a transformer, or ConvNeXt: no stem to thin
    kernel, stride, padding = conv.kernel_size, conv.stride, conv.padding
    if small and not patches:
        stride = (1, 1)
        if not pretrained:
            kernel, padding = (3, 3), (1, 1)
        if isinstance(getattr(net, "maxpool", None), nn.MaxPool2d) and path == "conv1":
            net.maxpool = nn.Identity()
    if channels != conv.in_channels or (kernel, stride) != (conv.kernel_size, conv.stride):
        new = copy.deepcopy(conv)  # of its kind, which can be timm's own
        new.in_channels, new.kernel_size, new.stride, new.padding = channels, kernel, stride, padding
        if not pretrained:
            new.weight = nn.Parameter(torch.empty(conv.out_channels, channels, *kernel))
            new.reset_parameters()
        elif channels != conv.in_channels:
            new.weight = nn.Parameter(conv.weight.detach().sum(1, keepdim=True))
        parent, _, attribute = path.rpartition(".")
        setattr(net.get_submodule(parent), attribute, new)
    if pretrained:
        net.normalisation = tuple(
            [255 * sum(values) / 3] if channels == 1 else [255 * value for value in values]
            for values in normal
        )
    return net
