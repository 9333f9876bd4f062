"""The image files that a command line names."""

import glob
import os
import sys
from pathlib import Path

from src.core.errors import UserError
from src.core.files import printable
from src.core.image_files import count_line, images_below, summary


def find_images(names: list[str]) -> list[Path]:
    """Return the files that paths, folders and globs name, each once, in order.

    The number of files in folders that are left out is printed to stderr.

    Raises:
        UserError: a name matches nothing.
    """
    files: dict[Path, Path] = {}  # by real path
    for name in names:
        path = Path(os.path.expanduser(name))  # noqa: PTH111 (Path's raises for an unknown user)
        matches = [path] if path.exists() else _matches(path) or [path]
        named = [match for match in matches if match.is_file()]
        scans = {match: images_below(match) for match in matches if match.is_dir()}
        below = [file for scan in scans.values() for file in scan.images]
        if not named + below:
            left_out = "; ".join(summary(scan.left_out) for scan in scans.values())
            why = (
                f"a folder without images{f' ({left_out})' if left_out else ''}"
                if scans
                else "no such file or folder, and no file matches it as a glob"
            )
            raise UserError(f"images={name}: {why}")
        for folder, scan in scans.items():
            if scan.left_out:
                print(f"{printable(folder)}: {count_line(scan.left_out)}", file=sys.stderr)
        for file in named + below:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def _matches(path: Path) -> list[Path]:
    """Return the files and folders that the glob `path` matches, sorted.

    The folders at its start that exist are taken literally, whatever characters are in their names.
    """
    head = next(parent for parent in path.parents if parent.is_dir())
    pattern = str(Path(glob.escape(str(head))) / path.relative_to(head))
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path's also matches hidden files)
    return [Path(match) for match in sorted(matches)]
