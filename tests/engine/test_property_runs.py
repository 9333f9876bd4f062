"""With any damage to a run's files, each command works or names the damaged file in one line."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

from src.augment import augment
from src.config.checks import check
from src.config.compose import compose
from src.config.resume import resume_run
from src.evaluate import evaluate
from src.export import export
from src.predict import predict
from src.sample import sample
from src.train import train
from src.translate import translate
from tests.conftest import TINY, TINY_NETS, WINTER_RUN, call, saved
from tests.properties import draws, holds, refused

QUICK = (*TINY, "logger=default", "data.cache=null", "data.limit=40", "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """Return the folder of a finished run of each kind."""
    top = tmp_path_factory.mktemp("runs")
    photo = ("data=folder", f"data.root={photos}", "data.size=8", "data.limit=null")
    return {
        kind: trained(top / kind, overrides)
        for kind, overrides in {
            "classifier": ("model=fc", "model.optimizer.momentum=0.8", *QUICK, *photo),
            "gan": (*TINY_NETS, *QUICK),
            "cyclegan": (
                *WINTER_RUN,
                f"data.root={photos}",
                "trainer.max_epochs=1",
                "augment=none",
            ),
            "words": (
                *TINY,
                "data.limit=null",
                "model=word_vectors",
                "data=reviews",
                "trainer.max_epochs=1",
            ),
        }.items()
    }


def trained(folder: Path, overrides: tuple[str, ...]) -> Path:
    overrides = tuple(
        o for o in overrides if not (o.startswith("data.") and "data=reviews" in overrides)
    )
    cfg = compose("train", list(overrides))
    check(cfg)
    train(cfg, saved(cfg, folder))
    return folder


def commands(kind: str, folder: Path, photos: Path, out: Path) -> dict:
    """Return the commands that use a run, by name."""
    new = (f"run={folder}", f"images={photos / 'cats' / '0.png'}")
    found = {"resume": lambda: resume_run(train, folder, ["trainer.max_epochs=2"]),
             "evaluate": lambda: call("evaluate", evaluate, f"run={folder}")}  # fmt: skip
    if kind == "classifier":
        found |= {
            "predict": lambda: call(
                "predict", predict, *new, f"out={out / 'a.csv'}", "picture=null"
            ),
            "export": lambda: call(
                "export", export, f"run={folder}", "format=torch", f"out={out / 'a.pt2'}"
            ),
            "init_from": lambda: start_from(
                (
                    "model=fc",
                    "data=folder",
                    f"data.root={photos}",
                    "data.size=8",
                    "data.cache=null",
                ),
                folder,
            ),
        }
    if kind in ("gan", "cyclegan"):
        found["sample"] = lambda: call(
            "sample", sample, f"run={folder}", "n=2", f"out={out / 'a.png'}"
        )
    if kind == "cyclegan":
        found |= {
            "translate": lambda: call("translate", translate, *new, f"out={out / 'new'}",
                                      "size=16"),
            "augment": lambda: call("augment", augment, f"data.root={photos}", "augment=model",
                                    f"augment.run={folder}",
                                    "augment.size=16", "data.limit=4", f"out={out / 'more'}"),
        }  # fmt: skip
    if kind == "words":
        found["init_from"] = lambda: start_from(("model=sentiment", "data=reviews"), folder)
    return found


def start_from(overrides: tuple[str, ...], source: Path) -> None:
    """Start a model from the weights of the run in `source`."""
    from src.engine import build

    cfg = compose("train", [*overrides, f"model.init_from={source}"])
    check(cfg)
    data = build.datamodule(cfg)
    build.model(cfg, data).load_pretrained(data)


CONTENTS = (b"", b"{}", b"[]", b"null", b"\0" * 64, b"\xff\xfe\x00", b"batches\n1",
            b"batches,a\n1,2,3\n", b"batches,a\nx,y\n",
            b"a: [", b"model: 3", b"model: {_target_: src.models.gan.GAN}", b"- 1", b"5",
            b'{"a": ', b"{1: 2}",
            b"a: &a [*a]")  # fmt: skip
OBJECTS = ({}, [], None, {"state_dict": {}}, {"state_dict": 3, "loops": {}}, torch.zeros(2))


@st.composite
def damage(draw, runs: dict[str, Path]):
    """Draw a kind of run, one of its files, a way to damage it, and a command that reads it."""
    kind = draw(st.sampled_from(sorted(runs)))
    files = sorted(path.relative_to(runs[kind]) for path in runs[kind].rglob("*") if path.is_file())
    name = draw(
        st.sampled_from(
            [
                *files,
                *[file for file in files if file.suffix in (".ckpt", ".yaml", ".json", ".csv")] * 2,
            ]
        )
    )
    command = draw(st.sampled_from(sorted(commands(kind, Path(), Path(), Path()))))
    how = draw(
        st.sampled_from(["flip", "cut", "replace", "object", "other", "folder", "gone", "none"])
    )
    place = draw(st.floats(0, 1, exclude_max=True))
    if how == "replace":
        return (
            kind,
            name,
            command,
            partial(replaced, content=draw(st.sampled_from(CONTENTS) | st.binary(max_size=40))),
        )
    if how == "object":
        return kind, name, command, partial(as_object, value=draw(st.sampled_from(OBJECTS)))
    if how == "other":
        return (
            kind,
            name,
            command,
            partial(as_other, other=runs[draw(st.sampled_from(sorted(runs)))], name=name),
        )
    return (
        kind,
        name,
        command,
        partial({"flip": flipped, "cut": cut}.get(how, HARM.get(how)), place=place),
    )


def flipped(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[int(place * len(data))] ^= 1 << int(place * 7919) % 7
    path.write_bytes(data)


def cut(path: Path, place: float) -> None:
    path.write_bytes(path.read_bytes()[: int(place * path.stat().st_size)])


def replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def as_object(path: Path, value: object) -> None:
    torch.save(value, path)


def as_other(path: Path, other: Path, name: Path) -> None:
    """Return the content of the same file of another run; None if it has none."""
    if (other / name).is_file():
        shutil.copyfile(other / name, path)


def as_folder(path: Path, place: float) -> None:
    path.unlink()
    path.mkdir()


HARM = {
    "folder": as_folder,
    "gone": lambda path, place: path.unlink(),
    "none": lambda path, place: None,
}


@draws(20, 350)
def test_every_command_works_or_names_the_broken_file(
    count, runs, photos, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    seen = {True: 0, False: 0}

    def claim(drawn):
        kind, name, command, harm = drawn
        top = tmp_path / "now"
        shutil.rmtree(top, ignore_errors=True)
        (top / "out").mkdir(parents=True)
        folder = shutil.copytree(runs[kind], top / "run")
        harm(folder / name)
        seen[refused(commands(kind, folder, photos, top / "out")[command]) is None] += 1

    holds(count, damage(runs), claim)
    assert min(seen.values()) > 0, seen
