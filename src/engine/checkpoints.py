"""How Lightning reads and writes this project's checkpoints."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from src.core import runs
from src.core.files import write_atomically


class AtomicCheckpoints(TorchCheckpointIO):
    """Write each checkpoint to a temporary file, then rename it; keep one more as previous.ckpt.

    Args:
        loaded: the checkpoint to resume from, already read and checked. Lightning reads it once.
    """

    def __init__(self, loaded: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.loaded = loaded

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        target = Path(path)
        write_atomically(
            target,
            lambda temporary: torch.save(checkpoint, temporary),
            previous=target.with_name(runs.PREVIOUS),
        )

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        checkpoint, self.loaded = self.loaded, None
        assert checkpoint is not None
        return checkpoint
