"""Execute the notebooks of this folder: python -m notebooks.execute [FOLDER]

The executed copies go to FOLDER, by default runs/notebooks. The notebooks stay without outputs.
"""

import sys
import time
from asyncio import CancelledError
from pathlib import Path

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from traitlets import default

from src.config.cli import guarded
from src.core.errors import UserError

HERE = Path(__file__).resolve().parent


class ThisPython(AsyncKernelManager):
    """The Python that runs this file, whatever kernels its user has installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())

    @default("transport_encryption")
    def _encrypted(self) -> str:
        return "auto"  # else each kernel warns that it is not


def execute(path: Path, folder: Path) -> Path:
    """Run the notebook at `path` in the repository's root; return its copy in `folder`.

    Raises:
        UserError: a cell failed. The message names it; the copy holds the outputs up to there.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisPython,
        timeout=None,
        resources={"metadata": {"path": str(HERE.parent)}},
    )
    copy = folder / path.name
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        reached = max(cell.get("execution_count") or 0 for cell in notebook.cells)
        what = (
            f"{error.ename}: {error.evalue}"
            if isinstance(error, CellExecutionError)
            else str(error)
        )
        raise UserError(
            f"{path.name}, cell [{reached}]: {what.splitlines()[0]} (as far as it came: {copy})"
        ) from error
    except (
        AssertionError,
        CancelledError,
    ) as error:  # at Ctrl-C nbclient ends the kernel, then trips over its absence
        raise KeyboardInterrupt from error
    finally:
        nbformat.write(notebook, copy)
    return copy


def main(folder: Path) -> None:
    """Execute all of them, one after another; print the path of each copy, and the seconds."""
    if folder.resolve() == HERE:
        raise UserError(
            f"{folder} holds the notebooks, which stay without outputs; choose another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}") from error
    for path in sorted(HERE.glob("*.ipynb")):
        start = time.monotonic()
        copy = execute(path, folder)
        print(f"{copy}   {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(Path(*sys.argv[1:2] or ["runs/notebooks"]))))
