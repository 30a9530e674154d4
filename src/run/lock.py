"""A folder belongs to one process at a time."""

import errno
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from .. import durable
from ..errors import UserError
from ..foreign import printable, text_of

LOCK_SECONDS = 10  # a killed sweep's workers may live that long
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # of network drives without a lock server
MOST_LOCK_BYTES = 2**10


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder for one process, until the block or the process ends. Raises UserError if another
    process has it, on whatever machine, or if its file system has no locks."""
    durable.make_folder(folder)
    for above in folder.absolute().parents[:3]:  # Hydra makes outputs/<date>/<time>, and syncs nothing
        durable.sync_folder(above)
    path = folder / ".lock"
    try:
        lock = locked(path, LOCK_SECONDS)
        if not isinstance(lock, SoftFileLock):  # which says as much
            with suppress(OSError):  # a full disk is found out soon enough
                path.write_text(f"{os.getpid()}\n{platform.node()}\n", encoding="utf-8")
    except Timeout:
        raise UserError(
            f"{folder}: another process is at work in this folder{holder(path)}; if that is lost, as "
            f"with a node of a cluster, remove {path}"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        why = "its file system has no locks, which runs need: give them a folder elsewhere"
        raise UserError(f"{path}: {error.strerror}: {why}") from None
    try:
        yield
    finally:
        lock.release()


def locked(path: Path, seconds: float) -> FileLock:
    """Lock a file, waiting so long. Raises Timeout, and OSError."""
    lock = FileLock(path, timeout=seconds)
    with warnings.catch_warnings():  # where there is no flock, a file that is there is the lock
        warnings.filterwarnings("ignore", message="flock not supported")
        lock.acquire()
    return lock


def holder(lock: Path) -> str:
    """In words, the process that has locked a file, as far as it says."""
    with suppress(OSError, ValueError):
        process, host, *_ = text_of(lock, MOST_LOCK_BYTES).splitlines()
        return f" (process {printable(process)} on {printable(host)})"
    return ""
