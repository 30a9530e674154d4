"""Files that are there whole or not at all, whatever ends the process or the machine.

What a process writes reaches the disk later, contents and names in any order: after a power cut a file
can have its name and no content. So a file is written beside its place, synced, renamed, and the folder
that now holds the name is synced too.
"""

import csv
import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# What a file system answers that knows no syncing of folders, or a folder that one may not list.
UNSYNCABLE = (errno.EINVAL, errno.EACCES, errno.EPERM, errno.EBADF, errno.ENOTSUP, errno.ENOSYS)
TEXT = {"encoding": "utf-8", "errors": "backslashreplace"}  # a file may be called anything
# With these a formula begins; some programs take wide characters too, or drop what is not printed first.
# Where columns are told apart by semicolons, as in much of Europe, a cell can also begin behind one.
FORMULA = re.compile("(^|[;\t\r\n])(?= *[=+\\-@\t\r\n＝＋－＠|%])")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A new file to write, beside `path`, whose folder is made if need be. When the block ends it is on
    the disk and takes the name `path`; if the block raises, what had that name before is untouched.
    Raises OSError that names `path`."""
    # The suffix tells some writers the format; torch wants a name before the last dot.
    beside = path.with_name(f".unfinished.{path.stem[:40]}{path.suffix}")
    with naming(path):
        make_folder(path.parent)
        beside.unlink(missing_ok=True)  # of a killed process, or somebody's link to another file
        try:
            yield beside
            sync(beside)
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str, **encoding) -> None:
    """Put `text` into `path`, all of it or nothing. Lines end as they do in `text`."""
    with written_aside(path) as beside, open(beside, "w", newline="", **encoding) as file:
        file.write(text)


def write_bytes(path: Path, content: bytes) -> Path:
    """Put `content` into `path`, all of it or nothing, and return the path."""
    with written_aside(path) as beside:
        beside.write_bytes(content)
    return path


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows, the header first, in which no text is a formula for a spreadsheet, whoever chose it;
    numbers stay, and None is an empty cell."""
    with written_aside(path) as beside, open(beside, "w", newline="", **TEXT) as file:
        csv.writer(file).writerows(
            [harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
        )


def harmless(text: str) -> str:
    """A cell with an apostrophe before what begins as a formula does."""
    return FORMULA.sub(r"\1'", text)


def append(path: Path, text: str) -> None:
    """Add `text` to the end of a file; it is on the disk when this returns. Raises OSError that names
    `path`, and the file may then hold a part of it."""
    first = not path.exists()
    with naming(path):
        with open(path, "a", newline="", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if first:
            sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """A folder and those above it, their names on the disk when this returns."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def sync(path: Path) -> None:
    """Bring the content of a file that others have written to the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in UNSYNCABLE:
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError of the block names `path`: writing to an open file, as a full disk refuses it, names
    none, and torch then raises a RuntimeError."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{path}: {error}") from error
        error.filename = str(path)
        raise
    except RuntimeError as error:
        if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
            raise OSError(f"{path}: cannot be written whole; is the disk full?") from error
        raise
