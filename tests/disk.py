"""What a power cut leaves: of everything that was written, only what was synced.

`recorded()` watches the calls of os.fsync and os.replace in this process. At each it notes two disks
that a power cut could leave at that moment: an orderly one, where a folder holds the names that it had
when it was last synced, and an eager one, where every name is there already. In both a file holds what
it held when it was last synced, and nothing if it never was.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Disk = dict[str, bytes]  # contents by path from the folder that is watched


class Recorder:
    def __init__(self, folder: Path):
        self.folder = folder
        self.contents: dict[int, bytes] = {}  # by inode, as last synced
        self.names: dict[Path, dict[str, int]] = {}  # inodes by folder and name, as last synced
        self.orderly: list[Disk] = []
        self.eager: list[Disk] = []

    def synced(self, descriptor: int) -> None:
        path, what = Path(os.readlink(f"/proc/self/fd/{descriptor}")), os.fstat(descriptor)
        if stat.S_ISDIR(what.st_mode):
            self.names[path] = {
                each.name: each.stat().st_ino for each in path.iterdir() if each.is_file()
            }
        else:
            self.contents[what.st_ino] = path.read_bytes()

    def note(self) -> None:
        now = {
            str(path.relative_to(self.folder)): self.contents.get(path.stat().st_ino, b"")
            for path in self.folder.rglob("*")
            if path.is_file()
        }
        self.eager.append(now)
        self.orderly.append(
            {
                str((folder / name).relative_to(self.folder)): self.contents.get(inode, b"")
                for folder, names in self.names.items()
                for name, inode in names.items()
                if folder.is_relative_to(self.folder)
            }
        )


@contextmanager
def recorded(folder: Path) -> Iterator[Recorder]:
    """Watch what reaches the disk of a folder during the block."""
    recorder, fsync, replace = Recorder(folder.resolve()), os.fsync, os.replace

    def watched_fsync(descriptor):
        fsync(descriptor)
        recorder.synced(descriptor)
        recorder.note()

    def watched_replace(*paths, **options):
        replace(*paths, **options)
        recorder.note()

    os.fsync, os.replace = watched_fsync, watched_replace
    try:
        yield recorder
    finally:
        os.fsync, os.replace = fsync, replace


def put(disk: Disk, folder: Path) -> Path:
    """A folder that holds what a disk does."""
    for name, content in disk.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
