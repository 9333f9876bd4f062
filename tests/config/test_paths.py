"""A path may contain any character that a file system allows, in every setting for paths."""

import csv
import json
import os
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from src.config.compose import compose
from src.config.overrides import quoted, settings_with, unquoted
from src.core.errors import UserError
from src.core.runs import load_config
from src.core.types import PATH
from tests.conftest import command, wrong

NAMES = [
    "Fotos für Oma", "photos (1)", "a=b,c", "[x]", "{a,b}", "#1 a#b", "it's", 'say "hi"', "$HOME",
    "~home", "~", "b\\", "b\\'c", "'in quotes'", "写真", "x: y", "100%", " spaces ", "a\tb",
    "two\nlines", "-x", "!&;|<>*?`", "caf\udce9",
]  # fmt: skip
EVERYTHING = "Fötos [1] (2) a=b,c #d $e 'f' \"g\" ~h {i} 100% & \\k 写真"
LATIN = "caf\udce9 a=b"  # a byte that is not UTF-8


def read_by_hydra(override):
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override()
    return parsed.value()


@pytest.mark.parametrize("name", NAMES)
def test_an_existing_path_is_taken_literally_in_every_setting(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    for key in sorted(settings_with(PATH)):
        for sweep in (False, True):
            for given_name in (*([] if name == "~" else [name]), f"./{name}", str(tmp_path / name)):
                path = Path(read_by_hydra(quoted(f"{key}={given_name}", sweep)))
                assert path.expanduser().resolve() == tmp_path / name, (key, given_name)


TEXT = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
)
BYTES = st.binary(min_size=1, max_size=40).filter(lambda name: not {0, 47} & set(name))


@pytest.mark.slow
@given(st.one_of(TEXT, BYTES.map(os.fsdecode)))
@example("\\'\\\\'")
@example("'")
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_file_name_is_taken_literally(tmp_path, name):
    path = tmp_path / name
    try:
        path.mkdir(exist_ok=True)
    except OSError:  # too long for the file system
        return
    if name in (".", "..") or "${" in name:
        return
    assert read_by_hydra(quoted(f"hydra.run.dir={path}")) == str(path)
    assert compose("predict", ["run=x", quoted(f"images={path}")]).images == str(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_path_that_does_not_exist_yet_is_taken_literally(tmp_path, name):
    for key in ("out", "hydra.run.dir", "hydra.sweep.dir", "cache", "picture"):
        assert read_by_hydra(quoted(f"{key}={tmp_path}/{name}/x.png")) == f"{tmp_path}/{name}/x.png"


def test_a_function_with_wrong_arguments_is_refused_as_a_whole():
    with pytest.raises(UserError, match=r"^model.ema=choice\(null,0.5\): .*write null,a,b"):
        quoted("model.ema=choice(null,0.5)", sweep=True)


def test_hydra_syntax_is_kept_if_no_such_path_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for override in (
        "cache=null",
        "images=[a.png,'b c']",
        "out='x y'",
        "hydra.run.dir='${out}/x'",
        "seed=1,2",
        "model=gan,lsgan",
        "~callbacks.quality",
        "data.classes=[a,b]",
    ):
        assert quoted(override, sweep=True) == override
    assert quoted("data.root=a,b", sweep=True) == "data.root=a,b"
    assert quoted("data.root=a,b") == "data.root='a,b'"
    assert quoted("data.root=ä ö,'b,c',d (1)", sweep=True) == "data.root='ä ö','b,c','d (1)'"
    Path("a,b").mkdir()
    assert quoted("data.root=a,b", sweep=True) == "data.root='a,b'"
    assert quoted("cache=a,b/new", sweep=True) == "cache='a,b/new'"
    assert quoted("cache=a,b/new,er", sweep=True) == "cache=a,b/new,er"
    monkeypatch.setenv("HOME", "/home/me")
    assert quoted("data.root=~/x") == "data.root='/home/me/x'"


def test_class_names_and_colors_may_contain_what_hydra_cannot_parse():
    assert quoted("data.classes=[Kätzchen,a b,c=d]") == "data.classes=['Kätzchen',a b,'c=d']"
    cfg = compose("train", ["data=folder", "data.root=x", quoted("data.classes=[猫,犬,c=d]"),
                            quoted("data.background=#ff0000")])  # fmt: skip
    assert list(cfg.data.classes) == ["猫", "犬", "c=d"]
    assert cfg.data.background == "#ff0000"


def test_a_path_with_a_reference_to_a_setting_is_refused(tmp_path):
    (tmp_path / "${x}").mkdir()
    with pytest.raises(UserError, match=r"must not contain \$\{, which refers to another setting"):
        quoted(f"data.root={tmp_path}/${{x}}")
    with pytest.raises(UserError, match="must not contain"):
        quoted(f"hydra.run.dir={tmp_path}/${{x}}/new")
    assert quoted("hydra.run.dir='${out}/new'") == "hydra.run.dir='${out}/new'"


def two_classes(root, n=12):
    for k, kind in enumerate(("red", "blue")):
        (root / kind).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (8, 8), (200 * k, 10 * i, 90)).save(root / kind / f"{i}.png")


TINY_RUN = ("model=fc", "data=folder", "data.size=8", "trainer=cpu", "trainer.max_epochs=1",
            "callbacks=none", "logger=csv", "data.batch_size=8")  # fmt: skip


def fine(*args):
    result = command(*args)
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [EVERYTHING, LATIN, *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES)]
)
def test_a_user_trains_resumes_and_predicts_in_such_a_folder(tmp_path, name):
    top = tmp_path / name
    two_classes(top / "in")
    run_dir = top / "run"
    fine(
        "train", *TINY_RUN, f"data.root={top}/in", f"cache={top}/cache", f"hydra.run.dir={run_dir}"
    )
    assert (run_dir / "metrics.json").is_file()
    assert (run_dir / ".hydra" / "config.yaml").is_file()
    assert list((top / "cache" / "decoded").iterdir())
    assert load_config(run_dir).data.root == f"{top}/in"
    (top / "in").rename(top / "moved")
    fine("train", f"resume={run_dir}", "trainer.max_epochs=2", f"data.root={top}/moved")
    assert json.loads((run_dir / "metrics.json").read_text())["batches"] == 4
    assert load_config(run_dir).data.root == f"{top}/moved"
    fine(
        "predict",
        f"run={run_dir}",
        f"images={top}/moved",
        f"out={top}/x.csv",
        f"picture={top}/x.png",
    )
    with (top / "x.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 25
    assert (top / "x.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", [EVERYTHING, LATIN])
def test_all_commands_accept_such_folders(tmp_path, name):
    top = tmp_path / name
    two_classes(top / "in")
    sweep = top / "sweep"
    settings = (*TINY_RUN, f"data.root={top}/in", f"cache={top}/cache")
    fine("train", "-m", *settings, "seed=0,1", f"hydra.sweep.dir={sweep}")
    assert (sweep / "seed=1" / "metrics.json").is_file()
    fine("train", *settings, f"model.init_from={sweep}/seed=0", f"out={top}/runs")
    assert len(list((top / "runs").rglob("metrics.json"))) == 1
    fine("evaluate", f"run={sweep}/seed=0", f"data.root={top}/in")
    fine("export", f"run={sweep}/seed=0", f"out={top}/x.onnx")
    assert (top / "x.onnx").is_file()
    fine("augment", f"data.root={top}/in", "augment=flip", f"out={top}/more")
    assert len(list((top / "more").rglob("*.png"))) == 24 + 17
    fine("augment", f"preview={top}/in/red/0.png", f"out={top}/sheet.png")
    assert (top / "sheet.png").is_file()
    fine(
        "train",
        "model=style_transfer_own",
        "data=style_pair",
        f"data.content={top}/in/red/0.png",
        f"data.style={top}/in/blue/0.png",
        "data.num_steps=1",
        "data.size=32",
        f"out={top}/style",
        "--cfg",
        "job",
    )
    fine(
        "train",
        "model=cyclegan",
        "data=unpaired",
        f"data.root_a={top}/in/red",
        "data.size=16",
        f"data.root_b={top}/in/blue",
        "model.generator.base_channels=4",
        "model.generator.n_blocks=1",
        "model.discriminator.base_channels=4",
        "trainer=cpu",
        "trainer.max_epochs=1",
        "callbacks=none",
        "logger=csv",
        "test=false",
        f"hydra.run.dir={top}/unpaired",
    )
    fine("translate", f"run={top}/unpaired", f"images={top}/in/*/1*.png", f"out={top}/translated")
    assert len(list((top / "translated").rglob("*.png"))) == 6


@pytest.mark.slow
def test_names_that_are_not_utf8_are_written_so_that_they_can_be_read(tmp_path):
    """This holds for terminals of any encoding, the CSV file, the manifest and the run's log."""
    two_classes(tmp_path / "in")
    odd = os.fsdecode(os.fsencode(tmp_path / "in" / "red") + b"/caf\xe9.png")
    Path(tmp_path / "in" / "red" / "0.png").rename(odd)
    (tmp_path / "in" / "red").rename(tmp_path / "in" / "r\udcf6t")
    (tmp_path / "in" / "r\udcf6t" / "b\udce9.png").write_bytes(b"no image")
    run_dir = tmp_path / "run"
    trained = fine("train", *TINY_RUN, f"data.root={tmp_path}/in", f"cache={tmp_path}/cache",
                   f"hydra.run.dir={run_dir}", "callbacks=default", "logger=default")  # fmt: skip
    assert "r\\xf6t/b\\xe9.png: damaged, or not an image" in trained.stderr
    assert "r\\xf6t/b\\xe9.png" in (run_dir / "train.log").read_text(encoding="utf-8")
    result = command("predict", f"run={run_dir}", f"images={tmp_path}/in", f"out={tmp_path}/x.csv",
                     "picture=null")  # fmt: skip
    assert result.returncode == 1
    assert "r\\xf6t/b\\xe9.png is not a readable image" in result.stderr
    assert "r\\xf6t/caf\\xe9.png" in result.stdout
    text = (tmp_path / "x.csv").read_text(encoding="utf-8")
    assert "r\\xf6t/caf\\xe9.png" in text
    assert text.splitlines()[0] == "file,class,probability,blue,r\\xf6t"
    fine(
        "augment",
        f"data.root={tmp_path}/in",
        "augment=flip",
        f"out={tmp_path}/out",
        "data.test_size=0",
        "data.val_size=0",
    )
    manifest = (tmp_path / "out" / "manifest.csv").read_text(encoding="utf-8")
    assert "train/r\\xf6t/caf\\xe9.png" in manifest


def test_a_pattern_below_an_odd_folder_matches(tmp_path):
    from src.core.inputs import find_images

    two_classes(tmp_path / "a [1] *", n=3)
    pattern = f"{tmp_path}/a [1] */**/[01].png"
    assert [path.name for path in find_images([pattern])] == ["0.png", "1.png", "0.png", "1.png"]


def test_a_wrong_path_of_odd_letters_is_one_line(tmp_path):
    args = (*TINY_RUN, f"cache={tmp_path / 'cache'}", f"out={tmp_path / 'runs'}")
    line = wrong(command("train", *args, f"data.root={tmp_path}/a=b,c [ü]"))
    assert f"data.root={tmp_path}/a=b,c [ü] cannot be read: No such file or directory" in line


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_override_means_the_same(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    override = quoted(f"data.root={name}")
    assert quoted(unquoted(override)) == override


def test_a_simple_path_is_printed_without_quotes():
    assert unquoted(quoted("hydra.run.dir=runs/a")) == "hydra.run.dir=runs/a"
