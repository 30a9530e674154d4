"""What a file may be before anything is read of it, and what is said of one that is wrong."""

import os
import stat
import zipfile
from pathlib import Path


def regular_file(path: str | Path, most_bytes: int | None = None) -> int:
    """The size of a file in bytes. Raises ValueError for what is no file, as a pipe, which would never
    end, and for one of more than `most_bytes`; OSError if there is none. Opens nothing."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("a folder, pipe, socket or device, not a file")
    if most_bytes is not None and found.st_size > most_bytes:
        raise ValueError(f"{found.st_size:,} bytes, more than {most_bytes:,}")
    return found.st_size


def check_zip(opened: zipfile.ZipFile, most_bytes: int) -> None:
    """Raise BadZipFile if a zip would expand to more than `most_bytes`, or in a way that cannot be
    stopped there. Read its members by `read(<their size>)`: without a number, zipfile expands first."""
    members = opened.infolist()
    size = sum(member.file_size for member in members)
    if size > most_bytes:
        raise zipfile.BadZipFile(f"would expand to {size:,} bytes, more than {most_bytes:,}")
    if {member.compress_type for member in members} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise zipfile.BadZipFile("compressed in an unusual way: zip it anew")


def check_file(path: Path, most_bytes: int) -> None:
    """Raise ValueError, naming it, for a file that is none or too large."""
    try:
        regular_file(path, most_bytes)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {printable(error)}") from None


def printable(error: Exception) -> str:
    """What a library says of a file, short, in one line, and without what a terminal would act on."""
    own = error.strerror if isinstance(error, OSError) else None  # without the path again
    said = "".join(c if c.isprintable() else " " for c in str(own or error)[:1000])
    return " ".join(said.split())[:300] or type(error).__name__
