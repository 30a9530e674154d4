"""Build the device, backbone, head, optimizer and schedule of a configuration."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from ..config import BadKey, Config
from ..config.classes import built, parameters, target_of
from ..losses import BadArgument, Head, MarginHead, adacos_scale
from ..losses.spread import spread
from ..models import build_backbone
from ..training import Device, build_optimizer, choose_device
from .arguments import arguments_of

SOME_CLASSES, SOME_STEPS = 1000, 1000  # of what is built only to be looked at


def build_device(config: Config) -> Device:
    with arguments_of("device"):
        return choose_device(**config.device.computing)


def build_model(config: Config, image_shape: tuple[int, int, int], fetch: bool = True) -> nn.Module:
    """Build the backbone, body and neck; `fetch` says whether learned weights are looked for."""
    body, arguments = target_of(config, "model"), config.model.arguments
    if "fetch" in parameters(body):
        arguments["fetch"] = fetch
    with arguments_of("model", config):
        return build_backbone(
            body(image_shape, **arguments),
            image_shape,
            config.model.embedding_dim,
            norm=config.neck.norm,
            dropout=config.neck.dropout,
        )


def build_head(config: Config, embedding_dim: int, num_classes: int) -> Head:
    """Build the loss with its class weights, margin and scale."""
    loss, arguments, scale = target_of(config, "loss"), config.loss.arguments, config.scale
    if issubclass(loss, MarginHead):
        arguments["margin"] = config.margin.value
    if loss.has_scale:
        arguments["scale"] = scale.value
        arguments["learnable_scale"] = scale.kind == "learnable"
        arguments["dynamic_scale"] = scale.kind == "adacos_dynamic"
        if scale.kind.startswith("adacos"):
            try:
                arguments["scale"] = adacos_scale(num_classes)
            except BadArgument as error:
                why = f"C = {num_classes}: {error.why}, use scale.value=…"
                raise BadKey("scale.kind", scale.kind, why) from None
    with arguments_of("loss", config):
        sizes = {"classes": num_classes, "dimension": embedding_dim}
        arguments = {name: built(value, **sizes) for name, value in arguments.items()}
        return loss(embedding_dim, num_classes, **arguments)


def penalty_of(config: Config) -> Callable[[Tensor], Tensor] | None:
    """Return what is added to the loss, of the class weights (C, D), if anything is."""
    weights = dict(config.spread)
    return partial(spread, **weights) if any(weights.values()) else None


def build_training(config: Config, backbone: nn.Module, head: nn.Module, steps: int):
    """Build the optimizer, and its schedule over `steps` training steps in each epoch."""
    choice = config.optimizer
    with arguments_of("optimizer", config):
        optimizer = build_optimizer(
            target_of(config, "optimizer"),
            backbone,
            head,
            lr=choice.lr,
            head_lr=choice.head_lr,
            backbone_lr=choice.backbone_lr,
            layer_decay=choice.layer_decay,
            **choice.arguments,
        )
    with arguments_of("schedule", config):
        schedule = target_of(config, "schedule")(
            optimizer, steps, config.epochs, **config.schedule.arguments
        )
    return optimizer, schedule
