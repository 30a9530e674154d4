"""The content of a run's summary.json, and the versions of packages that it names."""

import functools
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FiniteFloat, ValidationError

from ..config import Config, identity, setting
from ..errors import UserError
from .code import Code

# Whose versions a run's numbers can depend on.
PACKAGES = (
    "angular-penalty",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "hydra-core",
)
# The states of a run that was trained to its end. A collapsed one tells nothing apart; it counts all the
# same, because leaving it out would flatter its setting.
DONE = ("finished", "collapsed")


def web_address(value: Any) -> str | None:
    """An address that a page may link to: no script, no file."""
    web = isinstance(value, str) and value.startswith(("https://", "http://"))
    return value if web else None


Metrics = dict[str, FiniteFloat]


class Epochs(BaseModel):
    trained: int
    kept: int  # the epoch whose model the run keeps


class Summary(BaseModel):
    """The content of a run's summary.json. Unknown values are None, and left out of the file."""

    model_config = ConfigDict(extra="ignore")
    state: Literal["finished", "collapsed", "failed", "diverged", "pruned", "interrupted"] = "finished"
    error: str | None = None  # why it failed
    cause: Literal["memory", "gpu"] | None = None  # of a failure that runs beside it may share in
    collapse: str | None = None  # why it counts as collapsed
    identity: str  # see config/identity.py
    setting: str
    config: Config
    code: Code
    versions: dict[str, str] = {}
    resumed_after_epoch: int | None = None
    device: str | None = None
    threads: int | None = None
    precision: str | None = None
    data: str | None = None  # the fingerprint of its images
    counts: dict[str, dict[str, int]] = {}  # of images and pairs, by split
    classes: list[str] = []  # that are tested
    trained_classes: list[str] = []
    dealt: dict[str, Any] | None = None  # how the samples were dealt into folds
    skipped: list[str] = []  # files that were left out
    duplicates: list[str] = []  # images that are there more than once, in words
    wandb_url: Annotated[str | None, BeforeValidator(web_address)] = None
    images_per_second: float | None = None
    epochs: Epochs | None = None
    metrics: Metrics | None = None  # of the test split
    validation: Metrics | None = None  # of the split that settings are chosen by
    recall: dict[str, float | None] | None = None  # by class
    gpu_memory: dict[str, int] | None = None
    files: list[str] = []  # that the run leaves, to be read
    figures: list[str] | None = None  # None: not drawn yet
    seconds: float | None = None

    @classmethod
    def of(cls, config: Config, code: Code) -> "Summary":
        """The summary of a run that begins."""
        return cls(
            identity=identity(config),
            setting=setting(config),
            config=config,
            code=code,
            versions=versions(),
        )

    @property
    def done(self) -> bool:
        """True if the run was trained and evaluated to its end."""
        return self.state in DONE and self.metrics is not None

    def objective(self, metric: str) -> float:
        """A metric on the validation split, or on the test split if nothing was held out. Raises
        UserError if the run has none, as when another objective is asked of a run that was finished."""
        values = self.validation or self.metrics or {}
        if metric not in values:
            some = ", ".join(list(values)[:8]) + " …" * (len(values) > 8)
            raise UserError(
                f"objective={metric}: the finished run has no such metric, but {some or 'none'}"
            )
        return values[metric]

    def plain(self) -> dict[str, Any]:
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        return self.model_dump(mode="json", by_alias=True, include=given)


def first_mistake(error: ValidationError) -> str:
    """Where it is and what, as in `config.epochs: Input should be …`."""
    first = error.errors(include_url=False)[0]
    said = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), said]))


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run's numbers can depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
