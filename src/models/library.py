"""Bodies from torchvision and timm, by their names there."""

import copy
import difflib
import functools
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import nn

from ..losses import BadArgument

SECONDS = 5.0  # to wait for a server
SMALL = 64  # pixels; from smaller images, a stem that halves them twice leaves too little
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, deviation of pixels in 0…1


def _known_to(library: str) -> Callable[[str], str]:
    """Return a validator that raises ValueError for an architecture that the library does not have. It
    imports the library when it is called."""

    def known(architecture: str) -> str:
        names = model_names(library)
        if architecture not in names:
            near = difflib.get_close_matches(architecture, names, 8, 0.4)
            close = f"close names are {', '.join(near)}" if near else "no name is close to it"
            raise ValueError(f"{library} has no architecture of this name; {close}")
        return architecture

    return known


def _check(library: str, architecture: str) -> None:
    """Raise BadArgument for an architecture that the library does not have, as `hf-hub:…`, for which
    timm would ask a server even if no weights are wanted."""
    try:
        _known_to(library)(architecture)
    except ValueError as error:
        raise BadArgument("architecture", architecture, str(error)) from None


@functools.cache
def model_names(library: str) -> tuple[str, ...]:
    """The names of the image classifiers of `torchvision` or `timm`. Raises ValueError if it is not
    installed."""
    if library == "torchvision":
        from ..torchvision_compat import models

        return tuple(models.list_models(module=models))
    timm = _timm()
    return tuple(timm.list_models() + timm.list_pretrained())


def torchvision_body(
    image_shape: tuple[int, int, int],
    *,
    architecture: Annotated[str, AfterValidator(_known_to("torchvision"))],
    pretrained: bool = False,
    fetch: bool = True,
    **options,
) -> nn.Module:
    """torchvision's model `architecture` without its classifier, its first convolution adapted to the
    images: features (B, F). A `pretrained` one has the `normalisation` that its weights expect; without
    `fetch` they are not downloaded, because others will be loaded. Raises ValueError if they cannot be,
    if there is no classifier to remove, or for an option that torchvision does not take."""
    from ..torchvision_compat import models

    _check("torchvision", architecture)
    weights = "DEFAULT" if pretrained and fetch else None
    with _naming_what_failed(architecture, pretrained, options):
        net = models.get_model(architecture, weights=weights, **options)
    linear = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:  # as in SqueezeNet, whose classes come out of a convolution
        raise BadArgument("architecture", architecture, "has no linear classifier to replace")
    _replace(net, linear[-1], nn.Identity())
    for auxiliary in ("aux1", "aux2", "AuxLogits"):  # further classifiers, which training only uses
        if hasattr(net, auxiliary):
            setattr(net, auxiliary, None)
            net.aux_logits = False
    net.transform_input = False  # or images would be normalised twice
    return _adapted(net, image_shape, pretrained, IMAGENET)


def timm_body(
    image_shape: tuple[int, int, int],
    *,
    architecture: Annotated[str, AfterValidator(_known_to("timm"))],
    pretrained: bool = False,
    fetch: bool = True,
    **options,
) -> nn.Module:
    """timm's model `architecture` without its classifier, its first convolution adapted to the images:
    features (B, F). A `pretrained` one has the `normalisation` that its weights expect; without `fetch`
    they are not downloaded, because others will be loaded. Raises ValueError if they cannot be, if timm
    is not installed, or for an option that timm does not take."""
    timm = _timm()
    _check("timm", architecture)
    if pretrained and fetch and not options.get("checkpoint_path"):
        _check_hub(timm, architecture)
    if not fetch:
        options.pop("checkpoint_path", None)
    channels = {"in_chans": image_shape[0]}  # timm adapts the first layer's learned weights itself
    with _naming_what_failed(architecture, pretrained, options):
        net = timm.create_model(architecture, pretrained and fetch, num_classes=0, **channels, **options)
    settings = net.pretrained_cfg
    return _adapted(net, image_shape, pretrained, (settings["mean"], settings["std"]))


def _check_hub(timm, architecture: str) -> None:
    """Raise BadArgument where weights are not in the cache, and their server cannot be reached: timm
    would try again for 50 seconds."""
    import huggingface_hub

    repository = timm.get_pretrained_cfg(architecture).hf_hub_id
    if not repository or urllib.request.getproxies():  # a proxy may know more hosts
        return
    for file in ("model.safetensors", "pytorch_model.bin"):
        if isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str):
            return
    server = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        port = server.port or (80 if server.scheme == "http" else 443)
        socket.create_connection((server.hostname, port), timeout=SECONDS).close()
    except OSError as error:
        raise BadArgument(
            "pretrained",
            True,
            f"the weights of {repository} are not here, and {server.hostname} cannot be reached "
            f"({error}): download model.safetensors elsewhere, and give init.from=<file> instead",
        ) from None


def _timm():
    from .. import torchvision_compat  # noqa: F401, timm imports torchvision, which has to be done there

    try:
        import timm
    except ImportError:
        raise ValueError("timm is not installed, pip install -e '.[timm]'") from None
    return timm


@contextmanager
def _naming_what_failed(architecture: str, pretrained: bool, options: Mapping) -> Iterator[None]:
    """Turn a failed download of weights, and options that the library refuses, into a ValueError of one
    line that names the argument."""
    try:
        yield
    except TypeError as error:
        if not options:
            raise
        reason = " ".join(str(error).split())
        if len(options) > 1:  # which of them is to blame, only the reason says
            raise ValueError(f"{architecture}: {reason}") from error
        ((name, value),) = options.items()
        raise BadArgument(name, value, f"{architecture} does not take it ({reason})") from error
    except Exception as error:  # whatever a network stack raises
        if not pretrained:
            raise
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise BadArgument(
            "pretrained",
            pretrained,
            f"the weights of {architecture} could not be downloaded ({reason[0]}); check the network, "
            "or train without them",
        ) from error


def _adapted(
    net: nn.Module,
    image_shape: tuple[int, int, int],
    pretrained: bool,
    learned_with: tuple[tuple[float, ...], tuple[float, ...]],
) -> nn.Module:
    """The network with a first convolution that takes the images' channels, and with a stem that does
    not halve small images. Learned weights stay: for grey images they are summed over the colours, as if
    all three showed the same. `learned_with` is the mean and deviation of pixels in 0…1 that the weights
    expect."""
    channels, height, width = image_shape
    path, conv = next(
        (path, module) for path, module in net.named_modules() if isinstance(module, nn.Conv2d)
    )
    kernel, stride, padding = conv.kernel_size, conv.stride, conv.padding
    cuts_patches = stride == kernel  # as a transformer or ConvNeXt does: there is no stem to change
    if min(height, width) < SMALL and not cuts_patches:
        stride = (1, 1)
        if not pretrained:
            kernel, padding = (3, 3), (1, 1)
        if isinstance(getattr(net, "maxpool", None), nn.MaxPool2d) and path == "conv1":
            net.maxpool = nn.Identity()
    if channels != conv.in_channels or (kernel, stride) != (conv.kernel_size, conv.stride):
        new = copy.deepcopy(conv)  # of the same class, which may be timm's own
        new.in_channels, new.kernel_size, new.stride, new.padding = channels, kernel, stride, padding
        if not pretrained:
            new.weight = nn.Parameter(torch.empty(conv.out_channels, channels, *kernel))
            new.reset_parameters()
        elif channels != conv.in_channels:
            new.weight = nn.Parameter(conv.weight.detach().sum(1, keepdim=True))
        _replace(net, path, new)
    if pretrained:
        net.normalisation = tuple(
            [255 * sum(values) / 3] if channels == 1 else [255 * value for value in values]
            for values in learned_with
        )
    return net


def _replace(net: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, attribute = path.rpartition(".")
    setattr(net.get_submodule(parent), attribute, module)
