"""The page of a finished run: report.html, one file that needs no network, and curves.png."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from src.callbacks.images import FRAME
from src.callbacks.loggers import read_rows
from src.callbacks.progress import format_seconds
from src.core import run_record
from src.core.errors import optional
from src.core.types import PositiveInt
from src.metrics.key_metrics import format_value, select_key_metrics
from src.viz.curves import Curve, save_curves
from src.viz.pages import data_url, jpeg_url, render, write_page

STAGES = ("train", "val")
MAX_PLOTS = 9
DETAILS = ("class_", "images_per_second", "features_acc")  # starts of names without a plot
ENDS = ("_floor", "_low", "_high")
INSIDE = ("feature_maps", "filters", "grad_cam", "maximized")  # pictures that come last
THUMBNAIL = 480  # pixels of a picture that is too large to be embedded as it is


class RunPage(pl.Callback):
    """Write images/curves.png and report.html when a run is finished.

    The page holds the config, the command, the metrics, the curves and the pictures of the run.

    Args:
        max_kilobytes: larger pictures are shown as thumbnails.
    """

    def __init__(self, max_kilobytes: PositiveInt) -> None:
        self.max_kilobytes = max_kilobytes

    def write(
        self,
        model: pl.LightningModule,
        cfg: DictConfig,
        folder: Path,
        values: Mapping[str, Any],
        title: str,
    ) -> Path | None:
        """Write both files; return the page, or None if it cannot be written.

        Args:
            folder: the run.
            values: the content of metrics.json.
            title: what was trained on what.
        """
        names: Sequence[str] = getattr(model, "key_metrics", ())
        page = folder / "report.html"
        with optional("could not write report.html", folder):
            curves = run_curves(folder, names)
            path = folder / "images" / "curves.png"
            if curves:
                path.parent.mkdir(exist_ok=True)
                save_curves(curves, STAGES, path, title, columns=2)
            facts = run_facts(folder, values, names) | {
                "title": title,
                "config": OmegaConf.to_yaml(cfg, resolve=True),
                "curves": data_url(path.read_bytes(), "png") if curves else None,
            }
            pictures = [self._picture(one) for one in shown_pictures(folder / "images")]
            write_page(
                page, render("src.callbacks", "run_page.html.j2", facts=facts, pictures=pictures)
            )
            return page
        return None

    def _picture(self, path: Path) -> dict[str, Any]:
        """Return the name and the content of a picture, reduced if its file is large."""
        content = path.read_bytes()
        kind = path.suffix.removeprefix(".")
        if len(content) <= 1000 * self.max_kilobytes:
            return {"name": path.name, "image": data_url(content, kind), "reduced": False}
        with Image.open(io.BytesIO(content)) as picture:
            picture.seek(getattr(picture, "n_frames", 1) - 1)
            small = picture.convert("RGB")
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            return {"name": path.name, "image": jpeg_url(small), "reduced": True}


def run_curves(folder: Path, key_metrics: Sequence[str]) -> dict[str, list[Curve]]:
    """Return the curves of training and validation by metric, the most important ones first.

    A metric that was measured once has no curve.

    Args:
        folder: the run; its metrics.csv is read.
        key_metrics: names of metrics that come first.
    """
    try:
        rows = read_rows(folder / "metrics.csv", 2**62)
    except (OSError, ValueError):
        return {}
    names = {name.partition("/")[2] for row in rows.values() for name in row
             if name.partition("/")[0] in STAGES}  # fmt: skip
    names = {name for name in names if not name.startswith(DETAILS) and not name.endswith(ENDS)}

    def rank(name: str) -> tuple[int, str]:
        if name in key_metrics:
            return key_metrics.index(name), name
        return 100 + 100 * (not name.endswith("loss")) + 100 * name.endswith("lr"), name

    curves = {
        name: [_curve(rows, f"{stage}/{name}") for stage in STAGES]
        for name in sorted(names, key=rank)
    }
    shown = [name for name, found in curves.items() if any(len(curve.x) > 1 for curve in found)]
    return {name: curves[name] for name in shown[:MAX_PLOTS]}


def _curve(rows: Mapping[int, Mapping[str, str]], name: str) -> Curve:
    points = [(float(x), float(rows[x][name])) for x in sorted(rows) if name in rows[x]]
    points = [(x, y) for x, y in points if math.isfinite(y)]
    return Curve([x for x, _ in points], [y for _, y in points], [0.0] * len(points))


def run_facts(folder: Path, values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return what the page says about a run, as plain values.

    Args:
        folder: the run; its run.json is read.
        values: the content of metrics.json.
        names: the key metrics of its model.
    """
    record = run_record.read(folder)
    sessions = record.get("sessions", [])
    last = sessions[-1] if sessions else {}
    settings = record.get("settings", {})
    about = {
        "folder": str(folder),
        "started": str(sessions[0].get("started", ""))[:19].replace("T", " ") if sessions else "",
        "command": last.get("command"),
        "name": settings.get("name"),
        "note": settings.get("note"),
        "seed": str(settings.get("seed", "")),
        "device": last.get("device"),
        "precision": last.get("precision"),
        "threads": last.get("threads"),
        "trained": f"{values['batches']:,} batches in {format_seconds(values['train_seconds'])} "
        f"seconds ({format_seconds(values['seconds'])} with start and evaluation)"
        if "seconds" in values
        else None,
        "parameters": f"{values['parameters']:,}" if "parameters" in values else None,
        "commit": f"{str(last['commit'])[:9]}{' with changes' if last.get('diff') else ''}"
        if last.get("commit")
        else None,
    }
    return {
        "about": {key: value for key, value in about.items() if value},
        "commands": [one["command"] for one in sessions if one.get("command")],
        "key_metrics": [
            {"name": one.name, "value": format_value(one.value), "note": one.note}
            for one in select_key_metrics(values, names)
        ],
        "metrics": {
            name: format_value(value) if isinstance(value, float) else json.dumps(value)
            for name, value in values.items()
        },
    }


def shown_pictures(folder: Path) -> list[Path]:
    """Return the pictures of a run to show: of a series the newest frame and the animation.

    Those that look into the network come last.
    """
    pictures = sorted(path for path in folder.glob("*") if path.suffix in (".png", ".gif"))
    newest: dict[str, Path] = {}
    for path in pictures:
        is_frame = path.match(f"*_{FRAME}")
        newest[path.stem.rpartition("_")[0] if is_frame else path.name] = path
    shown = [path for path in newest.values() if path.name != "curves.png"]
    return sorted(shown, key=lambda path: path.name.startswith(INSIDE))
