"""Make each training batch take longer, so that a fault meets a tiny run while it trains.

Python imports this module at its start if its folder is on PYTHONPATH. The file PAUSE_FILE has the
seconds, which the test may change while the run trains. Nothing that is computed changes.
"""

import importlib.util
import os
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

MODULE = "src.callbacks.checkpoint"


def pause(*_: Any) -> None:
    time.sleep(float(Path(os.environ["PAUSE_FILE"]).read_text() or 0))


class Finder:
    """Finds one module, and changes its class Checkpoint when it is imported."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            module.Checkpoint.on_train_batch_start = pause

        spec.loader.exec_module = execute_and_change
        return spec


if "PAUSE_FILE" in os.environ:
    sys.meta_path.insert(0, Finder())
