"""The whole command on small folders, with small candidates."""

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from src.config.checks import check
from src.config.compose import compose
from src.config.overrides import quoted
from src.core.errors import UserError
from src.nanonet import project, recipes
from src.nanonet.__main__ import nanonet
from src.predict import predict
from src.serve.load import measured_accuracy
from tests.conftest import ON_CPU, call

SMALL = [*ON_CPU, "data.size=12", "data.batch_size=8", "model/optimizer=adam"]
CANDIDATES = {
    "line": ["model=fc", "model.net.hidden_dims=[4]", "trainer.max_epochs=1", *SMALL],
    "net": ["model=fc", "trainer.max_epochs=15", "model.optimizer.lr=0.01", *SMALL],
}


def write_photos(root: Path, numbers: range, sides: tuple[str, ...] = ("left", "right")) -> Path:
    """Write images whose left or right half is bright, one for each number and side."""
    for number in numbers:
        noise = torch.Generator().manual_seed(number)
        for place, side in enumerate(sides):
            pixels = torch.randint(0, 120, (16, 16, 3), generator=noise)
            pixels[:, 8 * place : 8 * place + 8] += 80
            path = root / side / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.byte().numpy()).save(path)
    return root


def settings(root: Path, out: Path, **changes: object) -> DictConfig:
    """Return the config of a command with two small candidates."""
    cfg = compose("nanonet", [])
    cfg.candidate = OmegaConf.create(CANDIDATES)
    cfg.data.root, cfg.out, cfg.cache = str(root), str(out), str(out.parent / "cache")
    cfg.found = {"runs": None, "caches": False, "max": 1}
    cfg.folds, cfg.repeats, cfg.budget = 3, 1, "10m"
    for key, value in changes.items():
        cfg[key] = value
    check(cfg, "nanonet")
    return cfg


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Return the folder of a search on photos with a test folder, a copy and a damaged file."""
    folder = tmp_path_factory.mktemp("nanonet")
    root = write_photos(folder / "photos" / "train", range(8)).parent
    write_photos(root / "test", range(20, 24))
    shutil.copy(root / "train" / "left" / "0.png", root / "train" / "left" / "copy.png")
    (root / "train" / "right" / "bad.png").write_bytes(b"no image")
    return nanonet(settings(root, folder / "it's out"))


def test_report_says_what_was_found_chosen_and_measured(finished: Path):
    facts = json.loads((finished / "report.json").read_text())
    assert facts["classes"] == {"left": 8, "right": 8}
    assert facts["chosen"] == "net"
    assert [row["name"] for row in facts["candidates"]] == ["line", "net"]
    assert facts["accuracy_low"] < facts["accuracy"] <= facts["accuracy_high"]
    assert facts["test"]["test/n"] == 8
    assert sum(map(sum, facts["confusion"])) == 16
    reasons = " ".join(facts["left_out"])
    assert "exact copies within a class" in reasons
    assert "unreadable" in reasons


def test_page_needs_no_network(finished: Path):
    page = (finished / "report.html").read_text()
    assert "<svg" in page
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_commands_of_the_report_name_the_run_whatever_its_folder_is_called(finished: Path):
    page = html.unescape((finished / "report.html").read_text())
    lines = re.findall(r"<pre>(.*)</pre>", page)
    assert [line.split()[2] for line in lines] == ["src.train", "src.serve", "src.predict"]
    run = str(finished / "run")
    assert shlex.split(lines[0])[-1] == f"hydra.run.dir={run}"
    for line in lines[1:]:
        argument = shlex.split(line)[3]
        assert compose("predict", [quoted(argument)]).run == run


def test_run_is_an_ordinary_one_that_knows_unlike_images(finished: Path, tmp_path: Path):
    Image.new("RGB", (30, 30), "white").save(tmp_path / "white.png")
    photo = finished.parent / "photos" / "test" / "left" / "20.png"
    images = f"images=[{photo},{tmp_path / 'white.png'}]"
    predictions = call("predict", predict, f"run={finished / 'run'}", images, "picture=null")
    assert predictions.unlike.tolist() == [False, True]
    assert predictions.probabilities[0].argmax() == 0


def test_service_of_a_run_without_test_photos_says_what_the_search_expects(finished: Path):
    expected = json.loads((finished / "report.json").read_text())["accuracy"]
    metrics = json.loads((finished / "run" / "metrics.json").read_text())
    facts = measured_accuracy(metrics, "last")
    assert facts["accuracy"] == metrics["test/acc"]
    facts = measured_accuracy({k: v for k, v in metrics.items() if k[:5] != "test/"}, "last")
    assert facts["accuracy"] == expected
    assert facts["accuracy_low"] < expected <= facts["accuracy_high"]
    assert facts["accuracy_measured"] == "by cross-validation"
    assert measured_accuracy(metrics, "best") == {}


def test_finished_search_is_not_repeated(finished: Path, monkeypatch):
    def trains(*args: object) -> None:
        raise AssertionError("it trained again")

    monkeypatch.setattr(recipes, "fit", trains)
    monkeypatch.setattr("src.nanonet.study.learning_curve", lambda *args: ([], np.zeros((0, 0))))
    root = finished.parent / "photos"
    before = (finished / "run" / "checkpoints" / "last.ckpt").read_bytes()
    nanonet(settings(root, finished))
    assert (finished / "run" / "checkpoints" / "last.ckpt").read_bytes() == before


def test_other_settings_in_the_same_folder_are_refused(finished: Path):
    with pytest.raises(UserError, match="another seed"):
        nanonet(settings(finished.parent / "photos", finished, seed=3))


def test_update_keeps_folds_and_compares_on_the_same_photos(finished: Path, tmp_path: Path):
    root = tmp_path / "photos"
    shutil.copytree(finished.parent / "photos", root)
    write_photos(root / "train", range(8, 14))
    folder = nanonet(settings(root, tmp_path / "out", init=str(finished)))
    facts = json.loads((folder / "report.json").read_text())
    assert facts["candidates"][0]["name"] == "net"  # the earlier choice comes first
    assert facts["comparison"]["photos"] == 16
    before, after = (
        json.loads((place / "search" / "summary.json").read_text()) for place in (finished, folder)
    )
    old = dict(zip(before["digests"], before["folds"][0], strict=True))
    new = dict(zip(after["digests"], after["folds"][0], strict=True))
    assert {digest: new[digest] for digest in old} == old


def test_added_photos_end_a_search_that_began_without_them(tmp_path: Path):
    root = write_photos(tmp_path / "photos", range(4))
    nanonet(settings(root, tmp_path / "out"))
    write_photos(root, range(4, 5))
    with pytest.raises(UserError, match="have changed"):
        nanonet(settings(root, tmp_path / "out"))


def test_command_that_failed_at_once_can_be_corrected(tmp_path: Path):
    root = write_photos(tmp_path / "photos", range(2))
    with pytest.raises(UserError, match="does not exist"):
        nanonet(settings(root, tmp_path / "out", init=str(tmp_path / "typo")))
    cfg = settings(root, tmp_path / "out")
    with project.opened(cfg) as own:
        assert len(project.look_at_photos(own, cfg).photos) == 4


def test_refused_command_leaves_no_folder_and_photos_as_they_were(tmp_path: Path):
    root = write_photos(tmp_path / "photos", range(2))
    for out in (root, root / "out", root / "left" / "out"):
        with pytest.raises(UserError, match=r"out=.* (lies in data.root=|holds other files)"):
            nanonet(settings(root, out))
    assert sorted(path.name for path in root.iterdir()) == ["left", "right"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        nanonet(settings(tmp_path / "empty", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        nanonet(settings(root, tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_photo_moved_to_another_class_ends_a_search_that_began_before(tmp_path: Path):
    root = write_photos(tmp_path / "photos", range(3))
    cfg = settings(root, tmp_path / "out")
    with project.opened(cfg) as own:
        project.look_at_photos(own, cfg)
        project.look_at_photos(own, cfg)
        (root / "left" / "0.png").rename(root / "right" / "moved.png")
        with pytest.raises(UserError, match="have changed"):
            project.look_at_photos(own, cfg)


def test_copy_whose_name_holds_a_line_break_is_one_line(tmp_path: Path):
    root = write_photos(tmp_path / "my\nphotos", range(2))
    shutil.copy(root / "left" / "0.png", root / "left" / "0copy.png")
    cfg = settings(root, tmp_path / "fine")
    with project.opened(cfg) as own:
        assert len(project.look_at_photos(own, cfg).photos) == 4  # the folder may hold one
    shutil.copy(root / "left" / "0.png", root / "left" / "0copy\n.png")
    cfg = settings(root, tmp_path / "out")
    with project.opened(cfg) as own, pytest.raises(UserError, match="rename it") as error:
        project.look_at_photos(own, cfg)
    assert "\n" not in str(error.value)


def test_photos_of_a_validation_folder_are_listed_as_left_out(tmp_path: Path):
    root = write_photos(tmp_path / "photos" / "train", range(2)).parent
    write_photos(root / "valid", range(5, 6))
    cfg = settings(root, tmp_path / "out")
    with project.opened(cfg) as own:
        found = project.look_at_photos(own, cfg)
    assert len(found.photos) == 4
    (paths,) = found.unread.values()
    assert sorted(paths) == [root / "valid" / side / "5.png" for side in ("left", "right")]


def test_setting_that_conf_lacks_and_classes_of_any_name_reach_the_trained_run(tmp_path: Path):
    sides = ("Café", "it's \\ one")
    root = write_photos(tmp_path / "photos", range(3), sides)
    line = [*CANDIDATES["line"], "model.optimizer.amsgrad=true"]
    cfg = settings(root, tmp_path / "out", candidate={"line": line})
    cfg.data.classes = list(sides)
    run = nanonet(cfg) / "run"
    trained = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert trained.model.optimizer.amsgrad
    assert list(trained.data.classes) == list(sides)


def test_two_classes_of_one_photo_each_work(tmp_path: Path):
    folder = nanonet(settings(write_photos(tmp_path / "photos", range(1)), tmp_path / "out"))
    facts = json.loads((folder / "report.json").read_text())
    assert facts["accuracy"] is None
    assert (folder / "run" / "checkpoints" / "last.ckpt").is_file()
