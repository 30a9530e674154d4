"""Is a finished run still what would be computed now? Not if other code computed it, if the images have
changed since, or if files that it left are gone."""

from pathlib import Path

from .data import data_fingerprint
from .identity import describe_code, same_sources


def files_in(folder: Path) -> list[str]:
    """What a run leaves to be read, by its names in the folder; as `summary.json` lists it."""
    names = ("metrics.csv", "checkpoint.pt", "best.pt", "embeddings.npz")
    return [name for name in names if (folder / name).exists()]


def pictures_in(folder: Path) -> list[str]:
    """What it leaves to be looked at."""
    return [f"plots/{path.name}" for path in sorted(folder.glob("plots/[!.]*"))]


def lacking(folder: Path, summary: dict) -> dict[str, str]:
    """The files of a finished run that are `missing` or `empty` now."""
    states = {}
    for name in summary.get("files") or ():
        try:
            if not (folder / name).stat().st_size:
                states[name] = "empty"
        except OSError:
            states[name] = "missing"
    return states


def differences(folder: Path, summary: dict, config: dict, code: dict) -> dict[str, str]:
    """What sets a finished run apart from the same run now, in words that go on after "finished": the
    `code` that computes, the `commit` alone, `files` or `images`. Images are read only where neither
    code nor files have decided already."""
    found, recorded = {}, summary.get("code")
    if recorded != code:
        kind = "commit" if same_sources(recorded, code) else "code"
        found[kind] = f"by other code ({describe_code(recorded)}; this is {describe_code(code)})"
    lost = lacking(folder, summary)
    if lost:
        found["files"] = "but " + ", ".join(f"{name} is {state}" for name, state in lost.items())
    if summary.get("data") and not {"code", "files"} & set(found):
        now = data_fingerprint(config)
        if now not in (None, summary["data"]):
            found["images"] = f"on other images ({summary['data']}; now they are {now})"
    return found


def in_words(found: dict[str, str]) -> str:
    return " and ".join(found.values())


def refusal(folder: Path, summary: dict, config: dict, code: dict) -> str | None:
    """Why a single run cannot be passed off as this finished one, and what to do; None if it can. Its
    folder is never overwritten."""
    found = differences(folder, summary, config, code)
    found.pop("commit", None)
    if not found:
        return None
    text = f"holds this run, finished {in_words(found)}: name a new folder, or move this one away"
    if set(found) == {"files"} and "checkpoint.pt" not in lacking(folder, summary):
        text += "; without its summary.json it goes on from its checkpoint"
    return text
