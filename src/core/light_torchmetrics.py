"""Import only the two classes of torchmetrics that Lightning needs.

pytorch_lightning imports `Metric` and `MetricCollection`. With them torchmetrics imports all of its
metrics, and for these scipy.signal, matplotlib and torchvision: over two seconds before a run
starts. Lightning has no option for this.

So the package is registered here before its `__init__` has run. The two classes come from their own
modules. Any other name, such as `torchmetrics.Accuracy`, makes `__init__` run as usual. Submodules
can be imported as always: `from torchmetrics.image.fid import FrechetInceptionDistance`.

The only difference: torchmetrics believes that matplotlib is missing, so its `plot` methods do not
work. If another version of torchmetrics is arranged differently, all of it is imported, which is
slower but correct.
"""

import importlib
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = {"Metric": "metric", "MetricCollection": "collections"}  # class -> its module
NEEDED = (*MODULES.values(), "utilities/__init__", "utilities/plot", "utilities/imports")


class LightPackage(ModuleType):
    """torchmetrics before its `__init__` has run."""

    __spec__: Any

    def __getattr__(self, name: str) -> Any:
        """Return a class of `MODULES` from its module; for another name, run `__init__` first."""
        if name == "__version__":
            return version(self.__name__)
        if name.startswith("__"):  # questions of Python's tools, not uses of the package
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name in MODULES:
            _disable_plots(f"{self.__name__}.utilities.imports", self.__path__[0])
            importlib.import_module(f"{self.__name__}.utilities")  # before metric: they are a cycle
            return getattr(importlib.import_module(f"{self.__name__}.{MODULES[name]}"), name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def install(name: str = "torchmetrics", needed: Sequence[str] = NEEDED) -> None:
    """Register the package; does nothing if it was imported already or is arranged differently.

    Args:
        name: name of the package.
        needed: its modules that this relies on.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.origin is None:
        return
    home = Path(spec.origin).parent
    if not all((home / f"{module}.py").exists() for module in needed):
        return
    package = LightPackage(spec.name)
    package.__spec__, package.__file__, package.__path__ = spec, spec.origin, [str(home)]
    vars(package)["_logger"] = logging.getLogger(spec.name)  # which its submodules import
    sys.modules[spec.name] = package


def _disable_plots(name: str, home: str) -> None:
    """Import the switches of torchmetrics alone, and set the one for matplotlib to missing."""
    if name in sys.modules:
        return
    spec: Any = spec_from_file_location(name, f"{home}/utilities/imports.py")
    switches: Any = module_from_spec(spec)
    sys.modules[name] = switches
    spec.loader.exec_module(switches)
    switches._MATPLOTLIB_AVAILABLE = False
