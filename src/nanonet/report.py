"""Write report.html, one file that needs no network, and report.json with the same facts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from src.config.overrides import setting
from src.core.files import printable, utf8, write_atomically
from src.core.pixels import to_float
from src.data.decode import Fit, decode
from src.engine.load import LoadedClassifier, load_classifier
from src.models.normalize import normalized
from src.nanonet.choice import accuracy_interval
from src.nanonet.earlier import Summary, compare
from src.nanonet.photos import Inspection
from src.nanonet.project import Project, command_line
from src.nanonet.search import Result
from src.nanonet.study import Study
from src.viz import explain, grids
from src.viz.pages import jpeg_url, render, write_page

MAX_SHOWN = 24  # photos in a row of the report
THUMBNAIL = 128  # pixels


def report(
    project: Project,
    found: Inspection,
    results: Sequence[Result],
    study: Study,
    command: Sequence[str],
    metrics: dict[str, Any],
    summary: Summary,
    earlier: Summary | None,
) -> None:
    """Write the report of a finished search, and print where it is.

    Args:
        command: the overrides of src.train that trained the choice.
        metrics: of its run.
        summary: of this search.
        earlier: the search before; None without one.
    """
    labels = torch.tensor(found.labels)
    comparison = compare(earlier, summary.digests, summary.correct) if earlier else None
    run = setting("run", project.run)
    serve = command_line("serve", [run])
    said = facts(found, results, study, labels) | {
        "test": metrics if found.test else None,
        "comparison": comparison and comparison._asdict(),
        "command": command_line("train", command),
        "serve": serve,
        "predict": command_line("predict", [run, "images=PHOTO_OR_FOLDER"]),
        "run": str(project.run),
    }
    trained = load_classifier(project.run)
    write_report(project.folder, said, pictures(found, study, labels, trained))
    if study.accuracy is not None and study.low is not None and study.high is not None:
        print(
            f"{study.chosen.recipe.name} recognizes about {study.accuracy:.1%} of new photos "
            f"(95% interval {study.low:.1%} to {study.high:.1%})"
        )
    print(f"report   {project.folder / 'report.html'}")
    print(f"page     {serve}")


def facts(
    found: Inspection, results: Sequence[Result], study: Study, labels: Tensor
) -> dict[str, Any]:
    """Return what the report says about the photos and the search, as plain values.

    Args:
        found: the photos.
        results: of the search.
        study: of the results.
        labels: (N,).
    """
    names, photos = found.class_names, found.photos
    counts = [found.labels.count(label) for label in range(len(names))]
    return {
        "photos": len(photos),
        "classes": dict(zip(names, counts, strict=True)),
        "left_out": _named(found.unread | found.excluded),
        "look_at": _named(found.warnings),
        "candidates": [
            _candidate(result, labels, result.recipe.name == study.chosen.recipe.name)
            for result in results
        ],
        "chosen": study.chosen.recipe.name,
        "accuracy": study.accuracy,
        "accuracy_low": study.low,
        "accuracy_high": study.high,
        "based_on_photos": study.n,
        "temperature": study.temperature,
        "ece_before": study.ece and study.ece[0],
        "ece_after": study.ece and study.ece[1],
        "curve_of": study.curve_of,
        "curve_photos": study.curve_photos,
        "curve": [point._asdict() for point in study.curve],
        "forecasts": [forecast._asdict() for forecast in study.forecasts],
        "confusion": _confusion(study.probabilities, labels, len(names)),
        "suspicious": [
            {
                "photo": printable(photos[one.photo].path),
                "label": names[found.labels[one.photo]],
                "predicted": names[one.predicted],
                "probability": one.probability,
            }
            for one in study.suspicious
        ],
    }


def _named(paths: dict[str, list[Path]]) -> dict[str, list[str]]:
    return {reason: [printable(path) for path in group] for reason, group in paths.items()}


def _candidate(result: Result, labels: Tensor, chosen: bool) -> dict[str, Any]:
    """Return one row of the table of candidates."""
    correct = result.correct(labels)
    known = not bool(correct.isnan().all())
    accuracy, low, high = accuracy_interval(correct) if known else (None, None, None)
    return {
        "name": result.recipe.name,
        "origin": result.recipe.origin,
        "overrides": result.recipe.overrides,
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "preparation_seconds": round(result.preparation, 1),
        "seconds": round(result.seconds, 1),
        "ending": result.ending,
        "chosen": chosen,
    }


def _confusion(probabilities: Tensor, labels: Tensor, num_classes: int) -> list[list[int]]:
    """Return the number of photos by (true, predicted) class, out of fold."""
    known = ~probabilities[:, 0].isnan()
    pairs = labels[known] * num_classes + probabilities[known].argmax(1)
    counts = torch.bincount(pairs, minlength=num_classes**2)
    return [[int(n) for n in row] for row in counts.view(num_classes, num_classes).tolist()]


def pictures(
    found: Inspection, study: Study, labels: Tensor, trained: LoadedClassifier
) -> dict[str, list[dict[str, str]]]:
    """Return the photos of the report: suspicious labels, worst mistakes, Grad-CAM of each class.

    Each has `image`, a data URL, and a caption of two lines, `first` and `second`.
    """
    names, photos = found.class_names, found.photos

    def picture(index: int, second: str) -> dict[str, str]:
        pixels = decode(photos[index].path, Fit((THUMBNAIL, THUMBNAIL), 3))
        return {
            "image": thumbnail(pixels),
            "first": printable(photos[index].path.name),
            "second": second,
        }

    suspicious = [
        picture(
            one.photo,
            f"{names[found.labels[one.photo]]}? "
            f"Rather {names[one.predicted]}, {one.probability:.0%}",
        )
        for one in study.suspicious[:MAX_SHOWN]
    ]
    confidence, predicted = study.probabilities.nan_to_num(-1).max(1)
    wrong = (predicted != labels) & (confidence >= 0)
    order = torch.where(wrong, confidence, -1).argsort(descending=True)
    worst = [
        picture(i, f"is {names[labels[i]]}, predicted {names[predicted[i]]} {confidence[i]:.0%}")
        for i in order[: min(MAX_SHOWN, int(wrong.sum()))].tolist()
    ]
    return {
        "suspicious": suspicious,
        "mistakes": worst,
        "heat_maps": _heat_maps(found, trained),
    }


def _heat_maps(found: Inspection, trained: LoadedClassifier) -> list[dict[str, str]]:
    """Return Grad-CAM over the first photo of each of the first classes.

    Returns [] if the network has no maps.
    """
    known = [k for k in range(len(found.class_names)) if k in found.labels]
    firsts = [found.labels.index(k) for k in known[:MAX_SHOWN]]
    paths = [found.photos[i].path for i in firsts]
    images = to_float(torch.stack([trained.read(path) for path in paths]))
    deployed = trained.net
    x = normalized(images, deployed.mean, deployed.std, deployed.in_channels)
    name = explain.find_cam_layer(deployed.net, x[:1])
    if name is None:
        return []
    labels = torch.tensor([found.labels[i] for i in firsts])
    heat = explain.grad_cam(deployed.net, deployed.net.get_submodule(name), x, labels)
    overlays = (grids.overlay_heatmap(images, heat) * 255).round().byte()
    return [
        {
            "image": thumbnail(overlay),
            "first": printable(path.name),
            "second": found.class_names[found.labels[i]],
        }
        for overlay, path, i in zip(overlays, paths, firsts, strict=True)
    ]


def thumbnail(pixels: Tensor) -> str:
    """Return an image (3 or 1, H, W) uint8 as a JPEG within a URL."""
    array = pixels.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return jpeg_url(Image.fromarray(array).resize((THUMBNAIL, THUMBNAIL)))


def write_report(folder: Path, facts: dict[str, Any], pictures: dict[str, Any]) -> None:
    """Write report.json and report.html."""
    page = render("src.nanonet", "report.html.j2", facts=facts, pictures=pictures)
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / "report.json", lambda path: path.write_bytes(utf8(text)))
    write_page(folder / "report.html", page)
