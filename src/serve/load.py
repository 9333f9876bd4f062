"""From a finished run to the service that fits its model."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from src.callbacks.protocols import CanDecode, CanPaint, CanTranslate
from src.config.signatures import class_attribute
from src.core import runs
from src.core.chosen_checkpoint import path_of
from src.core.errors import UserError
from src.core.types import height_width
from src.data.decode import Fit, parse_color, prepare
from src.engine.load import load_classifier, load_run
from src.models.style_transfer import StyleTransfer
from src.serve.classification import Classification
from src.serve.generation import LatentSpace
from src.serve.painting import Painter
from src.serve.service import Limits, Service
from src.serve.translation import Stylist, Translator

MEASURED = {"test": "on test images", "cv": "by cross-validation", "val": "on validation images"}


def load_service(folder: Path, limits: Limits, which: str = "last") -> Service:
    """Load a finished run; return its service.

    Raises UserError if no service can show this kind of model.
    """
    cfg = runs.load_config(folder)
    about = _about(folder, cfg, which)
    if class_attribute(cfg.model._target_, "is_classifier"):
        trained = load_classifier(folder, which)
        facts = {
            "classes": trained.class_names,
            "net": str(cfg.model.net.get("model_name", cfg.model.net._target_.rpartition(".")[2])),
            **measured_accuracy(runs.read_metrics(folder), which),
            "recognizes_unlike_images": trained.familiar is not None,
        }
        return Classification(trained, about | facts, limits)
    cfg, model, state = load_run(folder, which=which)
    if isinstance(model, CanPaint):
        return Painter(model, about, limits)
    if isinstance(model, CanDecode):
        conditional = getattr(model, "num_classes", None)
        classes = {"classes": state["class_names"]} if conditional else {}
        return LatentSpace(model, about | classes, limits)
    if isinstance(model, StyleTransfer):
        return Stylist(model, _preparation(cfg), about, limits)
    if isinstance(model, CanTranslate):
        return Translator(model, _preparation(cfg), about, limits)
    raise UserError(f"run={folder} holds a {about['family']}: there is no page for it")


def _about(folder: Path, cfg: DictConfig, which: str) -> dict[str, Any]:
    """Return the facts that every run has."""
    trained_at = datetime.fromtimestamp(path_of(folder, which).stat().st_mtime, UTC)
    return {
        "family": cfg.model._target_.rpartition(".")[2],
        "data": cfg.data.name,
        "size": list(height_width(cfg.data.size)),
        "trained": trained_at.isoformat(timespec="seconds"),
    }


def measured_accuracy(metrics: dict[str, float], which: str) -> dict[str, Any]:
    """Return a checkpoint's accuracy, its interval and how it was measured; {} without any."""
    prefix = "best/" if which == "best" else ""
    for group, how in MEASURED.items():
        if (name := f"{prefix}{group}/acc") in metrics:
            values = {
                f"accuracy{end}": metrics.get(f"{name}{end}") for end in ("", "_low", "_high")
            }
            return {**values, "accuracy_measured": how}
    return {}


def _preparation(cfg: DictConfig) -> Callable[[Image.Image, tuple[int, int]], Tensor]:
    """Return a function: an open image and a size (H, W) -> (C, H, W) uint8."""
    background = parse_color(cfg.data.get("background", "white"))

    return lambda image, size: prepare(image, Fit(size, cfg.data.channels, background))
