"""Hand out a trained backbone: `python -m src.export <run> --format onnx|torchscript|safetensors`."""

if __name__ == "__main__":
    from src.errors import begin_command

    begin_command()

import sys
from pathlib import Path

from .commands import add_allow, parser_of
from .config.tree import Device
from .errors import UserError
from .run.export import SUFFIXES, export
from .run.load import load_trained

CPU = Device(kind="cpu")


def main() -> None:
    parser = parser_of("export", __doc__)
    parser.add_argument("run", type=Path, help="a run's folder, or best:<sweep>")
    parser.add_argument("--format", choices=SUFFIXES, default="onnx")
    parser.add_argument("--out", type=Path, help="the file to write; default: <run>/export/backbone.<…>")
    add_allow(parser)
    given = parser.parse_args()
    try:
        run = load_trained(given.run, CPU, given.allow)
        out = given.out or run.folder / "export" / f"backbone{SUFFIXES[given.format]}"
        if run.unfinished:
            print(run.unfinished)
        worst = export(run, given.format, out)
    except (UserError, OSError) as error:
        sys.exit(str(error))
    print(f"{out}: embeddings differ from the model's by {worst:.1e} at most")


if __name__ == "__main__":
    main()
