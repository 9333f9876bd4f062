"""Candidates that need no name: the user's own runs, and nets whose weights are on this machine."""

import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from omegaconf import DictConfig, OmegaConf

from src.config.compose import CONF, compose, target_of
from src.config.overrides import setting
from src.core import runs, timm_names
from src.core.errors import UserError
from src.core.files import write_atomically
from src.core.types import height_width
from src.nanonet.photos import digest_of

CLASSIFIER = "src.models.classifier.Classifier"
NEW_HEAD = [  # the features of a frozen network and a new head; AdamW suits features of any scale
    "model.transfer.freeze=backbone",
    "model.tta.flip=true",
    "model/optimizer=adamw",
    "model.optimizer.lr=0.002",
    "model/schedule=cosine",
    "augment=flip",
    "data.batch_size=20",
    "trainer.max_epochs=20",
]


class Candidate(NamedTuple):
    """A candidate of a search, before it is checked.

    Attributes:
        name: of its folder, without a path separator.
        overrides: of src.train.
        origin: where it comes from, for the report.
    """

    name: str
    overrides: list[str]
    origin: str


def find_once(cfg: DictConfig, photos: Sequence[Path], folder: Path) -> list[Candidate]:
    """Return the candidates that `cfg.found` allows; a continued search has those it began with.

    Args:
        cfg: settings of src.nanonet.
        photos: all of them, those of the test folder too.
        folder: keeps the list.
    """
    path = folder / "found.json"
    if path.is_file():
        return [Candidate(*one) for one in json.loads(path.read_text(encoding="utf-8"))]
    found: list[Candidate] = []
    if cfg.found.runs is not None:
        found += own_runs(Path(cfg.found.runs).expanduser(), photos, cfg.found.max)
    if cfg.found.caches:
        found += cached_torchvision(cfg.found.max) + cached_timm(cfg.found.max)
    text = json.dumps(found, indent=1)
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))
    return found


def own_runs(folder: Path, photos: Sequence[Path], limit: int) -> list[Candidate]:
    """Return the newest finished classifiers of color images below `folder`.

    A run is left out if its data folder is gone or holds one of the photos, or that of a run that
    it started from: a network that has learned from a photo cannot be validated on it. So is a run
    that trained only the head of published weights, because its features are theirs.

    Args:
        folder: with runs in it, at any depth.
        photos: all files of the search.
        limit: number of runs.
    """
    configs = [path for path in folder.rglob("config.yaml") if path.parent.name == ".hydra"]
    found: list[Candidate] = []
    sizes = {path.stat().st_size for path in photos}
    digests = {digest_of(path) for path in photos}
    for run in sorted((path.parents[1] for path in configs), key=_trained_at, reverse=True):
        if len(found) == limit:
            break
        overrides = _overrides_of_run(run)
        if overrides is not None and not _may_know(run, sizes, digests):
            name = f"{run.parent.name}_{run.name}" if run.name == "run" else run.name
            taken = [candidate.name for candidate in found]
            found.append(Candidate(_unique(f"own_{name}", taken), overrides, f"your run {run}"))
    return found


def _trained_at(run: Path) -> float:
    """Return when the newest checkpoint of a run was written; 0 if it has none."""
    try:
        return runs.last_checkpoint(run).stat().st_mtime
    except (UserError, OSError):
        return 0.0


def _overrides_of_run(run: Path) -> list[str] | None:
    """Return the overrides that train a new head on the network of a run; None if it does not fit.

    They repeat the model's choice, the settings of its network that differ from it, and how its
    images were prepared.
    """
    try:
        cfg = runs.load_config(run)
        hydra = OmegaConf.load(run / ".hydra" / "hydra.yaml")
        choice = OmegaConf.select(hydra, "hydra.runtime.choices.model")
        model, data = cfg.model, cfg.data
        trained_head_only = model.init_from == "pretrained" and model.transfer.freeze == "backbone"
        if (
            model._target_ != CLASSIFIER
            or not runs.read_metrics(run)
            or data.channels != 3
            or data.permute
            or data.binarize
            or trained_head_only
        ):
            return None
        default = compose("train", [f"model={choice}", "data=folder", "data.root=."]).model
        own, usual = (
            {part: _plain(settings[part]) for part in ("net", "normalize")}
            for settings in (model, default)
        )
        own["normalize"]["whiten"] = False  # the first layer is that of the run
        if model.net._target_.startswith("src.nets.timm_net."):
            own["net"]["dropout"] = 0.0  # in its last layer, which is replaced
        height, width = height_width(data.size)
        return [
            f"model={choice}",
            *_differences("model", own, usual),
            setting("model.init_from", run.absolute()),
            f"data.size=[{height},{width}]",
            f"data.crop={data.crop}",
            f"data.interpolation={data.interpolation}",
            *NEW_HEAD,
        ]
    except (UserError, OSError, AttributeError, KeyError, TypeError, ValueError):
        return None  # not a run of this version, or damaged


def _differences(path: str, own: dict[str, Any], default: dict[str, Any]) -> Iterator[str]:
    """Yield the overrides that turn the settings of a node into its own."""
    for key, value in own.items():
        usual = default.get(key)
        if isinstance(value, dict) and isinstance(usual, dict):
            yield from _differences(f"{path}.{key}", value, usual)
        elif usual != value:
            yield f"{path}.{key}={json.dumps(value)}"


def _plain(node: DictConfig) -> Any:
    return OmegaConf.to_container(node, resolve=False)


def may_know(source: str | None, photos: Sequence[Path]) -> bool:
    """Return whether a network that starts from `source` may have learned from one of some photos.

    Args:
        source: a setting model.init_from.
        photos: files.
    """
    sizes, digests = {path.stat().st_size for path in photos}, {digest_of(path) for path in photos}
    return source not in (None, "pretrained") and _may_know(Path(str(source)), sizes, digests)


def _may_know(source: Path, sizes: Collection[int], digests: Collection[str]) -> bool:
    """Return whether a run, or one that it started from, may have learned from one of some photos.

    Args:
        source: a run or its checkpoint; one that is gone may know them.
        sizes, digests: of the files of the photos.
    """
    path = source.expanduser()
    try:
        cfg = runs.load_config(path if path.is_dir() else path.parent.parent)
    except UserError:
        return True
    before = OmegaConf.select(cfg, "model.init_from")
    if before not in (None, "pretrained") and _may_know(Path(before), sizes, digests):
        return True
    root = Path(cfg.data.root).expanduser()
    if not root.is_dir():
        return True
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            try:
                if path.stat().st_size in sizes and digest_of(path) in digests:
                    return True
            except OSError:
                continue
    return False


def cached_torchvision(limit: int) -> list[Candidate]:
    """Return the nets of conf/model whose weights are in torchvision's cache, newest first."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    files: dict[Path, list[str]] = {}
    for path in (CONF / "model").glob("[!_]*.yaml"):
        module, _, function = target_of_net(path.stem).rpartition(".")
        if module != "torchvision.models":
            continue
        weights = torchvision.models.get_model_weights(function).DEFAULT
        preset = weights.transforms()
        files[folder / weights.url.rpartition("/")[2]] = [
            f"model={path.stem}",
            f"data.size={preset.crop_size[0]}",
            f"data.crop={preset.crop_size[0] / preset.resize_size[0]:.3f}",
            f"data.interpolation={preset.interpolation.value}",
        ]
    return [
        Candidate(
            f"{files[path][0].partition('=')[2]}_imagenet",
            [*files[path], "model.init_from=pretrained", *NEW_HEAD],
            "torchvision's cache",
        )
        for path in _newest(files)[:limit]
    ]


def target_of_net(choice: str) -> str:
    """Return the function that builds the network of conf/model/`choice`.yaml; '' if none does."""
    text = (CONF / "model" / f"{choice}.yaml").read_text(encoding="utf-8")
    found = re.search(r"^ *net:\n +_target_: (\S+)", text, re.MULTILINE)
    return found[1] if found and not target_of("model", choice) else ""


def cached_timm(limit: int) -> list[Candidate]:
    """Return the nets whose weights timm has downloaded by huggingface_hub, newest first."""
    from huggingface_hub import constants

    names = {}
    for path in Path(constants.HF_HUB_CACHE).glob("models--timm--*/snapshots/*/*"):
        if path.name in ("model.safetensors", "pytorch_model.bin"):
            names[path] = path.parts[-4].removeprefix("models--timm--")
    newest = dict.fromkeys(names[path] for path in _newest(names))
    found = [_candidate_of_timm(name) for name in newest if timm_names.is_known(name)]
    return [candidate for candidate in found if candidate is not None][:limit]


def _candidate_of_timm(name: str) -> Candidate | None:
    """Return a net of timm with its pretrained weights; None if it has several last layers."""
    import timm

    card = timm.get_pretrained_cfg(name)
    if card is None or not isinstance(card.classifier, str):
        return None
    overrides = [
        "model=timm",
        f"model.net.model_name={name}",
        f"data.size={card.input_size[-1]}",
        f"data.crop={card.crop_pct}",
        f"data.interpolation={'bilinear' if card.interpolation == 'bilinear' else 'bicubic'}",
        "model.init_from=pretrained",
        *NEW_HEAD,
    ]
    return Candidate(name, overrides, "timm's cache")


def _newest(paths: Collection[Path]) -> list[Path]:
    """Return those of some files that exist, the newest first."""
    files = [path for path in paths if path.is_file()]
    return sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)


def _unique(name: str, taken: Collection[str]) -> str:
    """Return `name` as a file name, with a number if it is taken."""
    plain = re.sub(r"[^\w.-]", "_", name)
    number = 2
    unique = plain
    while unique in taken:
        unique, number = f"{plain}_{number}", number + 1
    return unique
