"""Runs grouped into settings, and what sets these apart, for a reader."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config
from ..config.identity import PLACES, normalised
from ..config.tree import PACKAGES, PIXELS, leaves
from ..errors import UserError
from .read import RunRecord
from .statistics import Family, Interval, Repeat

SHORT = {"margin.value": "m", "scale.value": "s", "optimizer.lr": "lr"}
# Besides keys that change no computation, those that do not set runs apart for a reader.
HIDDEN = ("seed", "dataset.fold", *PLACES, *(f"{group}._target_" for group in PACKAGES))
# Data sets whose name says nothing of whose images they are.
OWN_DATA = ("image_folder", "manifest", "embeddings", "recordio", "webdataset")
# What runs must have in common, or their numbers are about different things.
COMPARABLE = ("dataset", "dataset.val_fraction", "dataset.folds", "evaluation.protocol")


@dataclass(eq=False)
class Setting:
    """Runs that differ in their seed and fold only; `label` says what sets it apart, as "arcface m=0.3".
    `loss` is the loss's name, or pixels where beside trained models there is nothing for it to train."""

    key: str
    loss: str
    label: str
    differs: dict[str, object]
    runs: list[RunRecord]
    chosen: float = None  # the metric's mean on the split that settings are chosen by
    test: Interval = None  # and on the test split

    @property
    def collapsed(self) -> list[RunRecord]:
        return [run for run in self.runs if run.state == "collapsed"]

    @property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    @property
    def folds(self) -> list[int]:
        """The folds of a cross-validation that its runs are on; empty if it is none."""
        return sorted({run.repeat.fold for run in self.runs} - {None})

    @property
    def test_ratio(self) -> float:
        """Test images for each training image where the repeats are folds, which share training images;
        else 0, see `interval`."""
        if not self.folds:
            return 0.0
        try:
            counts = [run.counts for run in self.runs]
            return max(c["test"]["images"] / c["training"]["images"] for c in counts)
        except (KeyError, ZeroDivisionError):  # of k folds one is tested
            return 1 / max(1, (self.runs[0].config.dataset.folds or 2) - 1)

    def value(self, key: str) -> Any:
        """The value of a dotted key, such as `margin.value`."""
        group, _, name = key.partition(".")
        return getattr(getattr(self.runs[0].config, group), name)

    def values(self, metric: str) -> dict[Repeat, float]:
        """The metric on the test split, by seed and fold."""
        return {run.repeat: run.metrics[metric] for run in self.runs}

    def validation(self, metric: str) -> dict[Repeat, float]:
        """What the metric counts by when a setting is chosen, by seed and fold: its value on the
        validation split, or where none was held out on the test split."""
        return {run.repeat: run.chosen_by(metric) for run in self.runs}


def group_by_setting(runs: list[RunRecord]) -> list[Setting]:
    """Runs by setting, of two runs with one seed and fold the later; labelled by what varies among
    them."""
    by_key: dict[str, dict[Repeat, RunRecord]] = {}
    for run in runs:
        by_key.setdefault(run.setting, {})[run.repeat] = run
    configs = {key: next(iter(own.values())).config for key, own in by_key.items()}
    flat = {key: shown_values(config) for key, config in configs.items()}
    for key in COMPARABLE:
        several = {str(values.get(key)) for values in flat.values()}
        if len(several) > 1:
            raise UserError(f"runs with different {key} do not compare: {', '.join(sorted(several))}")
    pixels = {key for key, config in configs.items() if config.model.target == PIXELS}
    kinds = {
        key: "pixels" if key in pixels and len(pixels) < len(configs) else config.name("loss")
        for key, config in configs.items()
    }
    settings = []
    for key, own in by_key.items():
        kind = kinds[key]
        kin = [flat[other] for other in flat if kinds[other] == kind]
        differs = {
            name: value
            for name, value in flat[key].items()
            if (name != "loss" or kind == "pixels") and any(other.get(name) != value for other in kin)
        }
        label = " ".join([kind, *(label_part(*pair) for pair in differs.items())])
        ordered = sorted(own.values(), key=lambda run: (run.seed, run.repeat.fold or 0))
        differs = {"loss": flat[key]["loss"]} | differs
        settings.append(Setting(key, kind, label, differs, ordered))
    for label, count in Counter(setting.label for setting in settings).items():
        if count > 1:  # numbers that differ in a digit not shown
            alike = [setting for setting in settings if setting.label == label]
            for number, setting in enumerate(alike[1:], 2):
                setting.label += f" #{number}"
    return settings


def by_loss(settings: Iterable[Setting]) -> dict[str, list[Setting]]:
    """The settings of each loss, in their order."""
    found: dict[str, list[Setting]] = {}
    for setting in settings:
        found.setdefault(setting.loss, []).append(setting)
    return found


def contenders(own: list[Setting]) -> list[Setting]:
    """The settings of one loss to choose from: after a race, those that ran with all of its seeds. Where
    only one did, all are; where runs have failed, those that have not."""
    most = max(len(setting.runs) for setting in own)
    found = [setting for setting in own if len(setting.runs) == most]
    return found if len(found) > 1 else own


def family_of(settings: list[Setting], metric: str) -> Family:
    """The test results of settings, compared with each other."""
    groups = {setting.label: setting.values(metric) for setting in settings}
    return Family(groups, max((setting.test_ratio for setting in settings), default=0.0))


def unlabelled_differences(settings: list[Setting]) -> dict[str, list]:
    """What differs between losses, besides the loss, its margin and its scale, as epochs would."""
    flat = [shown_values(setting.runs[0].config) for setting in settings]
    labelled = {key for setting in settings for key in setting.differs}
    keys = {
        key for values in flat for key in values if key.split(".")[0] not in ("loss", "margin", "scale")
    }
    values = {
        key: list(dict.fromkeys(str(one.get(key)) for one in flat)) for key in sorted(keys - labelled)
    }
    return {key: several for key, several in values.items() if len(several) > 1}


def shown_values(config: Config) -> dict[str, object]:
    """The choices and the flat, normalised keys of a configuration that can set runs apart."""
    names = {group: config.name(group) for group in PACKAGES}
    return names | {
        leaf.key: normalised(leaf.value)
        for leaf in leaves(config)
        if leaf.identity and leaf.key not in HIDDEN
    }


def data_name(config: Config) -> str:
    """The name of the data of a run: its choice or, of somebody's own data, the folder's or file's."""
    name = config.name("dataset")
    if name in OWN_DATA:
        return Path(config.dataset.place).name or name
    return name


def label_part(key: str, value: object) -> str:
    if value is None:
        value = "null"
    elif isinstance(value, list):
        value = ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    elif isinstance(value, float):
        value = f"{value:g}"
    return f"{SHORT.get(key, key.removeprefix('loss.'))}={value}"


def split_shared(names: list[str], separator: str = " ") -> tuple[str, list[str]]:
    """Return the parts that all names have in common, and what is left of each. A name of which nothing
    would be left, or a single one, stays whole."""
    parts = [name.split(separator) for name in names]
    common = [part for part in parts[0] if all(part in others for others in parts)] if parts else []
    rests = [[part for part in own if part not in common] for own in parts]
    if len(names) < 2 or not all(rests):
        return "", list(names)
    return separator.join(dict.fromkeys(common)), [separator.join(rest) for rest in rests]
