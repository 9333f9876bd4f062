"""Small file systems that are full, read-only or without inodes."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT_ONLY = "mounting a small file system takes root"


def can_mount(folder: Path) -> bool:
    """Return whether this process may mount."""
    try:
        Disk(folder, "size=64k").unmount()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


class Disk:
    """A file system in memory, mounted at `path`.

    Args:
        options: of the mount, `size=2m` or `nr_inodes=20` say.
    """

    def __init__(self, path: Path, options: str) -> None:
        self.path = path
        self.fillers: list[Path] = []
        path.mkdir(parents=True, exist_ok=True)
        mount("-t", "tmpfs", "-o", options, "tmpfs", path)

    def fill(self) -> None:
        """Leave no byte free."""
        filler = self.path / "filler"
        self.fillers.append(filler)
        size = 2**20
        with filler.open("ab", buffering=0) as file:
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    def use_up_inodes(self) -> None:
        """Leave no file free."""
        with contextlib.suppress(OSError):
            while True:
                filler = self.path / f"filler{len(self.fillers)}"
                filler.touch()
                self.fillers.append(filler)

    def free(self) -> None:
        """Undo `fill` and `use_up_inodes`."""
        while self.fillers:
            self.fillers.pop().unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True, capture_output=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make `folder` read-only meanwhile, for whoever opens a file in it from now on."""
    mount("--bind", folder, folder)
    try:
        mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def mount(*arguments: str | os.PathLike[str]) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
