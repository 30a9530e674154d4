"""Hand out a trained backbone: `python -m src.export <run> --format onnx|torchscript|safetensors`."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

from argparse import Namespace

from .config.tree import Device
from .run.export import SUFFIXES, export
from .run.load import Trained
from .run.using import model_parser, use_model


def main() -> None:
    parser = model_parser("export", __doc__, "the file to write; default: <run>/export/backbone.<…>")
    parser.add_argument("--format", choices=SUFFIXES, default="onnx")
    use_model(parser, export_run, Device(kind="cpu"))


def export_run(run: Trained, given: Namespace) -> None:
    out = given.out or run.folder / "export" / f"backbone{SUFFIXES[given.format]}"
    worst = export(run, given.format, out)
    print(f"{out}: embeddings differ from the model's by {worst:.1e} at most")


if __name__ == "__main__":
    main()
