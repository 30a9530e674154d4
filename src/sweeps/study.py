"""A search's `study.db`: opened only if it is a study, and never begun anew where one has been."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from ..errors import UserError
from ..foreign import printable, read_yaml
from ..run.data import data_fingerprint
from ..run.folder import RunFolder

if TYPE_CHECKING:
    import optuna

NAME = "search"
LOCKED_SECONDS = 10  # that another program may hold the file
AWAY = "name a new folder, or move that one away"


class Asked(BaseModel):
    """What was asked of a search. Another is another search."""

    direction: str
    objective: str
    seeds: list[str]
    space: dict[str, list[str]]


class Noted(BaseModel):
    """What a search notes in its study."""

    search: Asked | None = None
    sources: list[str] = []


class NotedOfTrial(BaseModel):
    """What a search notes of a trial: the names of its runs, why it failed, and what it is worth."""

    runs: list[str] = []
    ended: str | None = None
    values: list[FiniteFloat] | None = Field(None, strict=True)


def check_file(path: Path) -> None:
    """Raise UserError for a `study.db` that is damaged, locked or something else's, and for one that is
    gone from a search's folder: Optuna would begin a new study in each."""
    if not path.exists():
        if searched(path.parent):
            raise UserError(f"{path}: is gone, and with it the search's trials; {AWAY}")
        return
    if not path.stat().st_size:
        raise UserError(f"{path}: is empty, and was a search's study; {AWAY}")
    where = f"file:{quote(str(path.absolute()))}?mode=rw"  # to read needs writing, after a kill
    try:
        with closing(sqlite3.connect(where, uri=True, timeout=LOCKED_SECONDS)) as database:
            state = database.execute("PRAGMA quick_check").fetchone()[0]
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
            studies = database.execute("SELECT study_name FROM studies") if "studies" in names else ()
            studies = [name for (name,) in studies]
    except sqlite3.Error as error:
        raise UserError(f"{path}: cannot be read as a search's study ({error}); {AWAY}") from None
    if state != "ok":
        raise UserError(f"{path}: is damaged ({' '.join(state.split())}); {AWAY}")
    if "trials" not in names or (studies and NAME not in studies):
        raise UserError(f"{path}: is not a search's study but something else's; {AWAY}")


def searched(folder: Path) -> bool:
    """Whether the last sweep in a folder was a search."""
    try:
        saved = read_yaml(folder / "multirun.yaml")
        return str(saved["hydra"]["sweeper"]["_target_"]).endswith(".SearchSweeper")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_study(path: Path, direction: str, pruner: str) -> "optuna.Study":
    """The study in a file, begun if there is none. Raises UserError as `check_file` does, and for a
    study that this Optuna cannot use, or that no search of ours has made."""
    import optuna

    check_file(path)
    names = {"median": "MedianPruner", "hyperband": "HyperbandPruner", "none": "NopPruner"}
    try:
        study = optuna.create_study(
            study_name=NAME,
            storage=storage_of(path),
            direction=direction,
            pruner=getattr(optuna.pruners, names[pruner])(),
            load_if_exists=True,
        )
        Noted.model_validate(study.user_attrs)
        for trial in study.get_trials(deepcopy=False):
            NotedOfTrial.model_validate(trial.user_attrs | {"values": trial.values})
    except ValidationError:
        raise UserError(f"{path}: is not a search's study but something else's; {AWAY}") from None
    except Exception as error:  # whatever Optuna makes of a file that another version left
        why = printable(error).splitlines()[0]
        raise UserError(f"{path}: Optuna {optuna.__version__} cannot use it ({why}); {AWAY}") from None
    return study


def unfinished(study: "optuna.Study", path: Path) -> "list[optuna.Trial]":
    """The trials of a study in a file that were under way when its process ended, to go on with."""
    import optuna

    storage = storage_of(path)
    number = storage.get_study_id_from_name(NAME)
    return [
        optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(number, trial.number))
        for trial in study.get_trials(deepcopy=False)
        if not trial.state.is_finished()
    ]


def storage_of(path: Path) -> "optuna.storages.RDBStorage":
    import optuna

    def connect() -> sqlite3.Connection:  # a URL could hold no path with a question mark
        return sqlite3.connect(path.absolute(), timeout=LOCKED_SECONDS, check_same_thread=False)

    return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})


def sampler(name: str, startup_trials: int, seed: int) -> "optuna.samplers.BaseSampler":
    import optuna

    if name == "tpe":
        return optuna.samplers.TPESampler(n_startup_trials=startup_trials, seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """What becomes of the study while a search runs, in one line: deleted, locked, the disk full."""
    import optuna
    import sqlalchemy

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        why = str(getattr(error.__cause__, "orig", None) or getattr(error, "orig", None) or error)
        raise UserError(f"{path}: the search cannot go on with it ({why.splitlines()[0]})") from error


def on_other_images(study: "optuna.Study", folder: Path) -> str | None:
    """The first run of a study's trials whose images have changed since; None if none has."""
    for trial in study.trials:
        for name in trial.user_attrs.get("runs", ()) if trial.value is not None else ():
            summary = RunFolder(folder / name).summary()
            now = data_fingerprint(summary.config) if summary and summary.done else None
            if now is not None and now != summary.data:
                return name
    return None


def rows_so_far(folder: RunFolder) -> list[dict]:
    """The epochs of a run that is under way; none if its file cannot be read, as before the first, or
    is not a run's."""
    try:
        rows = folder.rows()
    except (OSError, ValueError):
        return []
    return [row for row in rows if isinstance(row.get("epoch"), float)]
