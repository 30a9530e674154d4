"""Where a run's weights begin: at those of another run, or of a file, as far as they fit."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..losses import Head
from ..models.iresnet import weights_of_insightface
from ..training import load_checkpoint
from .start import start_file

log = logging.getLogger(__name__)
NESTED = ("state_dict", "model", "backbone")  # keys under which files hold the weights
BODY = "0."  # what the names of a body's weights begin with in a backbone with a neck
# Of a head: this run's own.
CONFIGURED = ("class_weights", "margin", "class_shares", "floor", "fixed_scale", "log_scale")
NAMED = 5  # tensors that a line names
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)


def start_from(source: str, backbone: nn.Module, head: Head, classes: tuple[str, ...]) -> None:
    """Put the weights of `source`, a run's folder, `best:<sweep>`, or a file of weights (.pt, .pth or
    .safetensors), into `backbone`, and a run's class weights and all else of its head into `head` if its
    classes are the same. What does not fit stays as it was drawn, and is named. Raises UserError for a
    file that cannot be read or that holds nothing that fits."""
    path = start_file(source)
    saved = read_weights(path)
    weights = flat_weights(saved)
    layers = list(backbone.children())
    linear = next((place for place, layer in enumerate(layers) if isinstance(layer, nn.Linear)), 0)
    faces = weights_of_insightface(weights, linear, isinstance(layers[-1], nn.BatchNorm1d))
    weights = faces or named_as_in(backbone, weights)
    left_out = load_fitting(backbone, weights)
    if len(left_out) == len(backbone.state_dict()):
        raise UserError(f"init.from={source}: none of its {len(weights)} weights fits this model")
    fitting = len(backbone.state_dict()) - len(left_out)
    log.info(f"the backbone starts from {path}: {fitting} of {len(backbone.state_dict())} tensors")
    if faces:
        log.warning(
            "these weights were trained on pixels from −1 to 1, and take here what dataset's mean and "
            "deviation make of them: train on, or evaluate after some epochs"
        )
    if left_out:
        some = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:NAMED])
        log.warning(f"left as initialised: {some}" + " …" * (len(left_out) > NAMED))
    same_classes = tuple(saved.get("classes", ())) == classes
    if same_classes and isinstance(saved.get("head"), dict):
        trained = {key: value for key, value in saved["head"].items() if key not in CONFIGURED}
        missing = set(load_fitting(head, trained)) - set(CONFIGURED)
        log.info("the class weights are new" if missing else "the class weights start from it too")


def freeze(what: str | list, backbone: nn.Module) -> None:
    """Keep parameters of the backbone as they are: all before the embedding layer (`body`), those of its
    normalisation layers that have weights (`norms`, whose running statistics stay too), or those of the
    body whose names, as in its own state dict, begin with one of `what`. Raises UserError for a name
    that none begins with, and if the model is a body alone."""
    asked = f"init.freeze={what}"
    if getattr(backbone, "features_are_embeddings", False):
        raise UserError(f"{asked}: for models with an embedding layer, which this has not")
    named = dict(backbone[0].named_parameters())
    names = [what] if isinstance(what, str) else map(str, what)  # a layer may be called 0
    if what == "norms":
        modules = backbone[0].named_modules()
        names = [key for key, one in modules if isinstance(one, NORMS) and one.weight is not None]
        if not names:
            raise UserError(f"{asked}: the model has no normalisation layers with weights")
    for name in names:
        chosen = [p for key, p in named.items() if name in ("body", key) or key.startswith(f"{name}.")]
        if not chosen:
            tops = ", ".join(dict.fromkeys(key.partition(".")[0] for key in named))
            raise UserError(
                f"{asked}: no parameter of the model begins with {name}; body, norms, or {tops}"
            )
        for parameter in chosen:
            parameter.requires_grad_(False)
    left = sum(p.requires_grad for p in named.values())
    log.info(f"frozen: {len(named) - left} of {len(named)} tensors before the embedding layer")


def read_weights(path: Path) -> dict:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        saved = load_checkpoint(path)
    except ImportError:
        raise UserError(f"init.from={path}: pip install safetensors reads it") from None
    except OSError as error:
        raise UserError(f"init.from={path}: no run, and no file of weights ({error})") from None
    except Exception as error:  # torn, foreign: each library raises its own
        raise UserError(f"init.from={path}: cannot be read ({error})") from None
    if not isinstance(saved, dict):
        raise UserError(f"init.from={path}: holds no weights by name")
    return saved


def flat_weights(saved: dict) -> dict[str, Tensor]:
    """The tensors of a state dict by their names in the module that they are of."""
    nested = next((saved[key] for key in NESTED if isinstance(saved.get(key), dict)), saved)
    return {str(name): value for name, value in nested.items() if isinstance(value, Tensor)}


def named_as_in(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names that a backbone has for them: files hold a body alone, as libraries save
    it, or within something larger, as `module.` of DataParallel or `model.encoder.` of somebody's own.
    Of the prefixes that can be left out, or put before, those with which most weights fit."""
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    found, most = weights, -1
    parts = [name.split(".") for name in weights]
    outer = {".".join(own[:depth]) + "." for own in parts for depth in range(1, len(own))}
    for prefix in ["", *sorted(outer)]:
        own = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        for before in ("", BODY):
            renamed = {before + name: weight for name, weight in own.items()}
            fitting = sum(shapes.get(name) == weight.shape for name, weight in renamed.items())
            if fitting > most:
                found, most = renamed, fitting
    return found


@torch.no_grad()
def load_fitting(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, str]:
    """Copy the weights that fit `module` by name and shape; return, by name, why others were not set."""
    left_out = {}
    for name, own in module.state_dict().items():
        found = weights.get(name)
        if found is None:
            left_out[name] = "not in the file"
        elif found.shape != own.shape:
            there, here = (tuple(tensor.shape) for tensor in (found, own))
            left_out[name] = f"shape {there} in the file, {here} in the model"
        elif not found.isfinite().all():
            left_out[name] = "not finite in the file"
        else:
            own.copy_(found)
    return left_out
