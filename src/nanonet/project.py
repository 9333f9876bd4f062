"""The folder of a NanoNet search: its settings, the photos in it, and the run that it ends with."""

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from src.config.checks import check
from src.config.cli import with_new_keys
from src.config.compose import compose, new_keys
from src.config.jobs import run_once
from src.config.overrides import as_text, setting, unquoted
from src.config.resume import resume_run
from src.core import new_runs, run_record, runs
from src.core.errors import UserError, first_line, writing
from src.core.files import printable, write_atomically
from src.engine import build
from src.engine.load import load_run
from src.models.classifier import Classifier
from src.models.familiar import digest_below_head, learn_familiar
from src.nanonet import demonstration
from src.nanonet.available import Candidate, find_once, may_know
from src.nanonet.earlier import Summary
from src.nanonet.folds import affordable_folds, assign_folds
from src.nanonet.lab import Lab
from src.nanonet.photos import Inspection, look
from src.nanonet.recipes import Recipe, embed
from src.nanonet.study import Study
from src.train import train as train_task

DEFAULT = Path("runs") / "nanonet"
SEARCH = "search"  # folder in the folder of a search
PHOTOS = "photos.json"  # list of the photos that the search began with


class Project(NamedTuple):
    """The files of one search.

    Attributes:
        folder: holds everything.
        root: the photos.
    """

    folder: Path
    root: Path

    @property
    def search(self) -> Path:
        """Finished folds and features, from which a stopped search goes on."""
        return self.folder / SEARCH

    @property
    def run(self) -> Path:
        """The run that trains the choice on all photos."""
        return self.folder / "run"

    @property
    def excluded(self) -> Path:
        """The text file with the photos that are left out."""
        return self.folder / "left_out.txt"

    def overrides(self, cfg: DictConfig) -> list[str]:
        """Return the overrides of src.train that say which photos, and how to read them."""
        made = [
            "data=folder",
            setting("data.root", self.root),
            "data.val_size=0",
            "data.test_size=0",
            f"seed={cfg.seed}",
        ]
        if cfg.data.classes is not None:
            names = ",".join(as_text(str(name)) for name in cfg.data.classes)
            made.append(f"data.classes=[{names}]")
        if cfg.data.background != "white":
            color = cfg.data.background
            color = color if isinstance(color, str) else list(color)
            made.append(f"data.background={json.dumps(color)}")
        if self.excluded.is_file():
            made.append(setting("data.exclude", self.excluded))
        if cfg.cache != "~/.cache/atelier":
            made.append(setting("cache", Path(cfg.cache)))
        return made


@contextmanager
def opened(cfg: DictConfig) -> Iterator[Project]:
    """Yield the project of `cfg`, new or to be continued, locked against other processes.

    Raises:
        UserError: its folder holds something else, or a search with other settings.
    """
    root = Path(cfg.data.root).expanduser() if cfg.data.root else None
    folder = Path(cfg.out).expanduser() if cfg.out else DEFAULT / (root or demonstration.NAME).name
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = {key: value for key, value in plain.items() if key != "out"}
    path = folder / "settings.json"
    is_new = not folder.exists()
    if not (is_new or path.is_file()) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"out={folder} exists and holds other files: choose another folder")
    if root is not None and root.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(f"out={folder} lies in data.root={root}: choose a folder elsewhere")
    with writing(f"out={folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    with runs.locked(folder):
        if (folder / SEARCH).exists():
            _expect_same(path, settings)
        else:  # new, or left by a command that failed before it computed anything
            (folder / PHOTOS).unlink(missing_ok=True)
            with writing(f"out={folder}"):
                write_atomically(path, lambda file: file.write_text(json.dumps(settings, indent=2)))
        if root is None:
            root = demonstration.write(folder / "photos")
        try:
            yield Project(folder, root)
        except UserError:
            if is_new and not (folder / SEARCH).exists():  # nothing was computed
                new_runs.discard(folder, parents=False)
            raise


def _expect_same(path: Path, settings: dict[str, Any]) -> None:
    try:
        before = json.loads(path.read_text())
        different = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): choose another out=") from error
    if different:
        raise UserError(
            f"{path.parent} holds a search with another {', '.join(different)}: "
            "give the same settings to continue it, or choose another out="
        )


def look_at_photos(project: Project, cfg: DictConfig) -> Inspection:
    """Look at all photos, and write the list of those to leave out."""
    project.excluded.unlink(missing_ok=True)
    train = compose("train", [*project.overrides(cfg), "data.in_memory=false"])
    check(train)
    found = look(build.datamodule(train))
    paths = [path.relative_to(project.root) for group in found.excluded.values() for path in group]
    if broken := [path for path in paths if len(bytes(path).splitlines()) > 1]:
        raise UserError(
            f"{printable(project.root / broken[0])} is to be left out, but its name holds a line "
            f"break, which {project.excluded.name} cannot hold: rename it"
        )
    if paths:
        names = b"".join(bytes(path) + b"\n" for path in paths)
        write_atomically(project.excluded, lambda file: file.write_bytes(names))
    _expect_same_photos(project, found)
    return found


def _expect_same_photos(project: Project, found: Inspection) -> None:
    """Raise UserError if the photos, their order or classes are not those of the search's start."""
    path = project.folder / PHOTOS
    now = [
        [str(photo.path.relative_to(project.root)), found.class_names[photo.label], photo.digest]
        for photo in (*found.photos, *found.test)
    ]
    if not path.is_file():
        write_atomically(path, lambda file: file.write_text(json.dumps(now)))
    elif json.loads(path.read_text()) != now:
        raise UserError(
            f"the photos in {project.root}, their names or classes have changed since the search "
            f"in {project.folder} began: start another one with out=NEW, and "
            f"init={project.folder} if it is finished"
        )


def load_earlier(cfg: DictConfig, found: Inspection) -> Summary | None:
    """Return the search that cfg.init names; None if it names none."""
    if cfg.init is None:
        return None
    earlier = Summary.load(earlier_folders(cfg)[0], f"init={cfg.init}")
    if earlier.class_names != found.class_names:
        raise UserError(
            f"init={cfg.init} knows the classes {', '.join(earlier.class_names)}, "
            f"but the photos are of {', '.join(found.class_names)}"
        )
    return earlier


def earlier_folders(cfg: DictConfig) -> list[Path]:
    """Return the folders whose features can be used again."""
    return [] if cfg.init is None else [Path(cfg.init).expanduser() / SEARCH]


def assign_all_folds(
    cfg: DictConfig, photos: Inspection, earlier: Summary | None
) -> list[list[int]]:
    """Return the fold of each photo in each repeat; those of an earlier search are kept."""
    folds = affordable_folds(photos.labels, photos.groups, cfg.folds)
    return [
        assign_folds(
            photos.labels,
            photos.groups,
            photos.digests,
            folds,
            cfg.seed + repeat,
            earlier.known_folds(repeat) if earlier else None,
        )
        for repeat in range(cfg.repeats)
    ]


def summarize(photos: Inspection, assigned: list[list[int]], found: Study) -> Summary:
    """Return what a later search with more photos needs."""
    return Summary(
        photos.class_names,
        photos.digests,
        assigned,
        found.chosen.correct(torch.tensor(photos.labels)).tolist(),
        found.chosen.recipe.name,
        found.chosen.recipe.overrides,
    )


def make_recipes(
    project: Project, cfg: DictConfig, found: Inspection, earlier: Summary | None
) -> list[Recipe]:
    """Return the candidates: an earlier choice, those of `cfg`, those found on this machine.

    A found one that does not fit is left out with a line, as is an earlier choice that may know the
    photos.

    Raises:
        UserError: one of the others does not fit.
    """
    candidates = [
        Candidate(name, list(overrides), f"candidate={name}")
        for name, overrides in cfg.candidate.items()
    ]
    photos = project.overrides(cfg)
    files = [photo.path for photo in (*found.photos, *found.test)]
    if earlier is not None:
        first = Candidate(earlier.name, earlier.overrides, f"choice of {cfg.init}")
        if may_know(Recipe.compose(first.name, photos, first.overrides).cfg.model.init_from, files):
            print(f"left out: {first.name}, the {first.origin}: it may know the photos")
        else:
            candidates = [first, *(one for one in candidates if one.name != first.name)]
    recipes = [Recipe.compose(one.name, photos, one.overrides, one.origin) for one in candidates]
    taken = [candidate.name for candidate in candidates]
    for one in find_once(cfg, files, project.search):
        if one.name in taken:
            continue
        try:
            recipes.append(Recipe.compose(one.name, photos, one.overrides, one.origin))
        except UserError as error:
            print(f"left out: {error}")
    return recipes


def train_command(project: Project, cfg: DictConfig, found: Study, has_test: bool) -> list[str]:
    """Return the overrides of src.train that train the choice on all photos."""
    return [
        *project.overrides(cfg),
        f"test={str(has_test).lower()}",
        *found.chosen.recipe.overrides,
        f"model.tta.temperature={found.temperature:.4g}",
        setting("hydra.run.dir", project.run),
    ]


def command_line(command: str, overrides: Sequence[str]) -> str:
    """Return src.`command` with overrides, as a line for a shell."""
    return shlex.join(["python", "-m", f"src.{command}", *map(unquoted, overrides)])


def measure_familiar(project: Project, lab: Lab, found: Study) -> None:
    """Write into the run how far from its photos is unfamiliar."""
    _, model, _ = load_run(project.run)
    assert isinstance(model, Classifier)
    data = lab.data(found.chosen.recipe)
    features = embed(model, data, torch.arange(len(data.train)))
    network = digest_below_head(model.measured_net)
    learn_familiar(features.plain, found.chosen.distance, network).save(project.run)


def train(project: Project, overrides: list[str], found: Study) -> dict[str, Any]:
    """Train the choice on all photos, as src.train does; return the run's metrics.

    The accuracy that the search expects is added to them as `cv/acc`, with its interval.
    """
    state = run_record.state_of(project.run, run_record.read(project.run))
    if state != run_record.FINISHED:
        if runs.holds_training(project.run):
            resume_run(train_task, project.run, [])
        else:
            given = with_new_keys(overrides, new_keys("train", overrides))
            with new_runs.reserved(project.run, exact=True):
                run_once("train", given, train_task, project.run, is_named=True)
    if found.accuracy is not None:
        expected = {"": found.accuracy, "_low": found.low, "_high": found.high}
        runs.write_metrics(project.run, {f"cv/acc{end}": x for end, x in expected.items()})
    return runs.read_metrics(project.run)
