"""A trained backbone in other formats, each compared with the model before it is left there.

ONNX and TorchScript files take pixels as they are, 0…255, and normalise them inside; a safetensors file
holds the backbone's weights alone. Each carries, as JSON, what is needed to use it: `usage_metadata`.
"""

import json
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ..commands import refuse_existing
from ..datasets.splits import constants
from ..durable import written_aside
from ..errors import UserError
from ..words import first_line
from .build import build_model
from .load import Trained
from .summary import versions

TOLERANCE = 1e-4  # of `max_difference`, on pixels drawn at random
KEY = "angular_penalty"  # of the metadata in the file
SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "safetensors": ".safetensors"}
NEEDS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "safetensors": ("safetensors",),
    "torchscript": (),
}


class OnPixels(nn.Module):
    """A backbone with its normalisation: pixels 0…255 (B, channels, height, width), or features (B, 1,
    1, F) -> (B, D)."""

    def __init__(self, run: Trained):
        super().__init__()
        self.backbone = run.backbone
        self.register_buffer("mean", constants(run.mean, run.image_shape))
        self.register_buffer("std", constants(run.std, run.image_shape))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.backbone((pixels - self.mean) / self.std)


def usage_metadata(run: Trained, normalises: bool) -> dict:
    """What one has to know to use the file."""
    return {
        "input": (
            "pixels, float32 (batch, channels, height, width), 0…255"
            if run.pictures
            else "features, float32 (batch, 1, 1, features)"
        )
        + (", normalised inside" if normalises else ", first (pixels - mean) / std"),
        "output": "embeddings, float32 (batch, embedding_dim), to be compared by their cosine",
        "image_shape": list(run.image_shape),
        "mean": run.mean,
        "std": run.std,
        **({"resize": "bilinear, antialiased"} if run.pictures else {}),
        "embedding_dim": run.head.embedding_dim,
        "classes": list(run.classes),
        "model": run.config.plain()["model"],
        "loss": run.config.name("loss"),
        "epoch": run.epoch,
        "versions": versions(),
    }


@torch.no_grad()
def export(run: Trained, kind: str, out: Path) -> float:
    """Write the file, and return the `max_difference` of its embeddings from the model's. Raises
    UserError, and leaves no file, if one exists, a package is missing, or the difference is above
    TOLERANCE."""
    refuse_existing(out)
    for package in NEEDS[kind]:
        try:
            __import__(package)
        except ImportError:
            raise UserError(
                f"--format {kind}: {package} is missing, pip install -e '.[export]'"
            ) from None
    model = OnPixels(run).cpu().to(memory_format=torch.contiguous_format).eval()
    # Also with other batch sizes than the model was traced with, on the sharpest images there can be.
    random = torch.Generator().manual_seed(0)
    batches = [torch.randint(256, (n, *run.image_shape), generator=random).float() for n in (3, 1, 5)]
    if not run.pictures:
        batches = [(batch / 64 - 2) * model.std + model.mean for batch in batches]
    with written_aside(out) as beside:
        written = WRITERS[kind](run, model, batches[0], beside)
        worst = max(max_difference(written(batch), model(batch)) for batch in batches)
        if not worst <= TOLERANCE:
            raise UserError(
                f"--format {kind}: its embeddings differ from the model's by {worst:.1e}, more "
                f"than {TOLERANCE:g}"
            )
    return worst


def max_difference(exported: Tensor, expected: Tensor) -> float:
    """The largest difference between embeddings, relative to the longest one if that is longer than 1:
    embeddings are compared by their direction, and some have a length in the hundreds."""
    return float((exported - expected).abs().max() / expected.norm(dim=1).max().clamp(min=1))


def to_onnx(run: Trained, model: nn.Module, batch: Tensor, path: Path):
    import onnx
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                model,
                (batch,),
                dynamo=True,
                verbose=False,
                input_names=["pixels"],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        except Exception as error:  # an unknown operator, or control flow that depends on data
            why = first_line(error.__cause__ or error)
            raise UserError(
                f"--format onnx: torch's exporter cannot take {run.config.name('model')} ({why}); "
                "--format torchscript may"
            ) from error
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {KEY: json.dumps(usage_metadata(run, True))})
    onnx.save(proto, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0])


def to_torchscript(run: Trained, model: nn.Module, batch: Tensor, path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; what reads its files is everywhere
        traced = torch.jit.trace(model, batch)
        torch.jit.save(traced, path, _extra_files={f"{KEY}.json": json.dumps(usage_metadata(run, True))})
        return torch.jit.load(path)


def to_safetensors(run: Trained, model: nn.Module, batch: Tensor, path: Path):
    from safetensors.torch import load_file, save

    weights = {key: value.cpu().contiguous() for key, value in run.backbone.state_dict().items()}
    path.write_bytes(save(weights, {KEY: json.dumps(usage_metadata(run, False))}))
    fresh = build_model(run.config, run.image_shape, fetch=False).eval()
    fresh.load_state_dict(load_file(path))
    return lambda pixels: fresh((pixels - model.mean) / model.std)


# Each writes a file, and returns what reads it back: pixels -> embeddings.
WRITERS = {"onnx": to_onnx, "torchscript": to_torchscript, "safetensors": to_safetensors}
