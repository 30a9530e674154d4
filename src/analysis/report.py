"""`report.html`: the answer in one file that needs no network and no W&B."""

import base64
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..commands import is_command
from ..datasets.images import opened
from ..durable import TEXT, write_text
from ..foreign import regular_file
from ..words import counted
from .page_data import page_data
from .ranking import Comparison, Setting, shown_values
from .read import RunRecord
from .settings import data_name, label_part, split_shared
from .tables import loss_rows, ranking_cells, ranking_header
from .typed import run_command, sweep_commands
from .wording import TEMPLATES, method

SETTINGS = 200  # rows of the table of settings; summary.csv has all
MOST_BYTES, MOST_PIXELS = 2**25, 2**26  # of a picture
WIDE = 1000  # pixels from which a picture takes the page's whole width
# What settings may share and a reader wants to know.
SHARED = (
    *("loss", "margin.value", "scale.value", "dataset", "evaluation.protocol", "model"),
    *("model.embedding_dim", "epochs", "batch_size", "optimizer", "optimizer.lr", "schedule"),
)


def write_report(
    comparison: Comparison, answer: list[str], figures: dict[Path, str], spheres: list, out: Path
) -> Path:
    """Write the page: `answer` in sentences, `figures` with their captions, `spheres` as
    `plots.aligned_spheres` leaves them. Whatever comes from runs is escaped."""
    page = environment().get_template("report.html")
    text = page.render(
        title=title(comparison),
        answer=answer,
        is_command=is_command,
        counts=counts(comparison),
        projects=wandb_projects(comparison.runs),
        problems=comparison.problems,
        shared=shared_values(comparison.settings),
        losses=loss_rows(comparison),
        settings=settings_table(comparison),
        method=method(comparison),
        chosen_on=comparison.chosen_on,
        pictures=list(drawn_pictures(comparison, figures)),
        commands=sweep_commands(comparison.runs),
        failures=failures(comparison.failures),
        data=page_data(comparison, spheres, [run_command(run) for run in comparison.runs]),
        plotly=plotly() if spheres else "",
    )
    path = out / "report.html"
    write_text(path, text, **TEXT)
    return path


def environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    env.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    env.globals["own"] = lambda name: Markup((TEMPLATES / name).read_text(encoding="utf-8"))
    return env


def plotly() -> Markup:
    """plotly.js, from the Python package, which takes a second to import whole and has it as a file."""
    folder = Path(find_spec("plotly").origin).parent
    return Markup((folder / "package_data" / "plotly.min.js").read_text(encoding="utf-8"))


def title(comparison: Comparison) -> str:
    config = comparison.best.runs[0].config
    others = " and others" * (len({setting.loss for setting in comparison.settings}) > 1)
    return f"{comparison.best.loss}{others} on {data_name(config)}, {config.name('model')}"


def counts(comparison: Comparison) -> str:
    states = Counter(run.state for run in comparison.runs)
    each = ", ".join(f"{count} {state}" for state, count in states.most_common())
    runs, settings = len(comparison.runs), len(comparison.settings)
    return f"{counted(runs, 'run')} ({each}) of {counted(settings, 'setting')}."


def wandb_projects(runs: list[RunRecord]) -> list[str]:
    """The pages of the projects that the runs are in."""
    addresses = (run.summary.wandb_url for run in runs if run.summary and run.summary.wandb_url)
    return list(dict.fromkeys(address.partition("/runs/")[0] for address in addresses))


def shared_values(settings: list[Setting]) -> list[str]:
    """What all settings have in common, as in "epochs=20"; the names of settings leave it out."""
    flat = [shown_values(setting.runs[0].config) for setting in settings]
    parts = [
        label_part(key, flat[0][key])
        for key in SHARED
        if flat[0].get(key) is not None and all(values.get(key) == flat[0][key] for values in flat)
    ]
    words = split_shared([setting.label for setting in settings])[0].split()
    loss = settings[0].loss  # stands in names without its key
    parts += [word for word in words if word not in parts and word != loss]
    seeds = {tuple(sorted({run.seed for run in setting.runs})) for setting in settings}
    return parts + ([f"seed={','.join(map(str, seeds.pop()))}"] if len(seeds) == 1 else [])


def settings_table(comparison: Comparison) -> dict:
    """Its `header` with the place of the `named` column, its `rows` of cells, and how many `more` there
    are."""
    header, rows = ranking_header(comparison), []
    named = header.index("setting")
    _, labels = split_shared([setting.label for setting in comparison.settings])
    shown = list(zip(comparison.settings, labels, strict=True))[:SETTINGS]
    for rank, (setting, label) in enumerate(shown, 1):
        cells = ranking_cells(comparison, rank, setting)
        cells[named] = cells[named].replace(setting.label, label, 1)
        rows.append(cells)
    return {
        "header": header,
        "named": named,
        "rows": rows,
        "more": len(comparison.settings) - len(rows),
    }


def drawn_pictures(comparison: Comparison, figures: dict[Path, str]) -> Iterator[dict]:
    """What the page shows of each figure: those of the comparison, then those of the best's first run.
    One that cannot be read is left out."""
    run = comparison.best.runs[0]
    best = f"{comparison.best.label} with seed {run.seed}"
    captions = {
        "confusion": f"Which classes {best} takes for which.",
        "neighbours": f"Queries, and what {best} finds nearest to them.",
        "identification": f"How often {best} names somebody for nobody in the gallery, or misses one.",
    }
    own = {run.folder / "plots" / f"{name}.png": caption for name, caption in captions.items()}
    for path, caption in (figures | own).items():
        try:
            regular_file(path, MOST_BYTES)
            with opened(path, MOST_PIXELS) as image:
                image.verify()
                size = image.size
        except Exception:  # none, damaged, or somebody's trap: Pillow raises anything
            continue
        content = base64.b64encode(path.read_bytes()).decode()
        shown = {"name": path.stem, "caption": caption, "wide": size[0] > WIDE}
        yield shown | {"size": size, "png": content}


def failures(runs: list[RunRecord]) -> dict:
    """A line for each, and what all their names begin with."""
    shared, names = split_shared([run.name for run in runs], ",")
    lines = [
        f"{run.state}: {name}: {first_line(run.error)}" for run, name in zip(runs, names, strict=True)
    ]
    return {"shared": shared, "lines": lines}


def first_line(text: str | None) -> str:
    return text.splitlines()[0] if text else "no reason was recorded"
