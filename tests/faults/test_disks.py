"""A disk that is full or read-only: one line, optional outputs are left out, an essential one ends
the run, no metric is lost, and the run can be resumed."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from src.core import run_record
from tests.faults.disks import ROOT_ONLY, read_only
from tests.faults.kills import batches_saved, compare, differences

pytestmark = pytest.mark.faults
FULL = "no space left on device"
QUICK = ("data=digits", "data.limit=100", "model=fc", "trainer=debug", "callbacks=none")
STRANGER = 54321  # a user who owns nothing


def failure(run):
    """The one line that says why the run ended with exit code 1."""
    code = run.wait()
    assert "Traceback" not in run.said
    errors = [line for line in run.said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, run.said[-2000:]
    assert run.said.splitlines()[-1] == errors[0]
    assert code == 1, run.said[-2000:]
    return errors[0]


def success(run):
    """Return the output of a run; assert that it succeeded."""
    assert run.wait() == 0, run.said[-2000:]
    assert "Traceback" not in run.said
    return run.said


def figures_printed(run):
    return json.loads(re.search(r"^all metrics: (.*)$", run.said, re.M)[1])


def assert_same_figures(uninterrupted, figures):
    found = []
    compare(json.loads((uninterrupted / "metrics.json").read_text()), figures, "", found.append)
    assert not found


def start_and_stop_at_checkpoint(kills, folder, *more, family="gan"):
    """Start a run in `folder` and stop its process after the first checkpoint."""
    run = kills.new(family, "32-true", folder, *more)
    assert run.until(lambda: (folder / "checkpoints" / "last.ckpt").exists()), run.said[-2000:]
    run.stand_still()
    return run


def assert_goes_on(kills, folder):
    """Resume the run in `folder`: it ends as the one that had space."""
    success(kills.start("gan", [f"resume={folder}"]))
    assert differences(kills.twin("gan", "32-true")[0], folder) == []


def test_a_full_disk_ends_the_run_which_continues_after_space_is_freed(kills, disk):
    small = disk("size=16m")
    folder = small.path / "run"
    run = start_and_stop_at_checkpoint(kills, folder)
    small.fill()
    run.go_on()
    line = failure(run)
    assert FULL in line
    assert f"the checkpoint of batch {batches_saved(folder)} is intact: free some space" in line
    assert f"resume={folder}" in line
    said = [line for line in run.said.splitlines() if "could not write " in line]
    assert len(said) == len(set(said)), "each once"
    assert not list(folder.rglob(".*.tmp"))
    assert run_record.state_of(folder, run_record.read(folder)) == "failed"
    small.free()
    assert_goes_on(kills, folder)


def test_a_full_disk_ends_all_processes_that_train_one_model(kills, disk):
    small = disk("size=16m")
    folder = small.path / "run"
    run = start_and_stop_at_checkpoint(kills, folder, family="classifier, two processes")
    small.fill()
    run.go_on()
    assert FULL in failure(run)


def test_a_run_ends_without_inodes_and_can_be_resumed(kills, disk):
    small = disk("size=64m,nr_inodes=200")
    folder = small.path / "run"
    run = start_and_stop_at_checkpoint(kills, folder)
    small.use_up_inodes()
    run.go_on()
    assert "no space left for more files (no inodes)" in (line := failure(run))
    assert "remove some files, then resume with" in line
    small.free()
    assert_goes_on(kills, folder)


def test_a_run_folder_that_becomes_read_only_ends_the_run(kills, disk):
    folder = disk("size=64m").path / "run"
    run = start_and_stop_at_checkpoint(kills, folder)
    with read_only(folder):
        run.go_on()
        line = failure(run)
        again = failure(kills.start("gan", [f"resume={folder}"]))
    for words in (line, again):
        assert "read-only file system; the checkpoint of batch " in words
        assert "is intact: make it writable, then resume with" in words
    assert_goes_on(kills, folder)


def test_pictures_are_left_out_with_one_line(kills, disk, tmp_path):
    folder = tmp_path / "run"
    run = start_and_stop_at_checkpoint(kills, folder)
    disk("size=64k", folder / "images").fill()
    run.go_on()
    assert success(run).count("could not write the pictures (") == 1
    found = differences(kills.twin("gan", "32-true")[0], folder)
    assert all("images/" in difference for difference in found), found


def test_events_and_log_are_left_out_and_figures_are_printed(kills, disk):
    """Only the checkpoints have space: the run trains to its end and only misses its metrics."""
    small = disk("size=16m")
    folder = small.path / "run"
    run = start_and_stop_at_checkpoint(kills, folder, "~logger.csv")
    disk("size=64m", folder / "checkpoints")
    small.fill()
    run.go_on()
    assert f"metrics.json: {FULL}; the checkpoint of batch 48 is intact" in failure(run)
    for name in ("TensorBoard's events", "the pictures", str(folder / "train.log")):
        assert run.said.count(f"could not write {name} (") == 1, name
    uninterrupted = kills.twin("gan", "32-true")[0]
    assert_same_figures(uninterrupted, figures_printed(run))
    small.free()
    success(kills.start("gan", [f"resume={folder}"]))
    assert_same_figures(uninterrupted, json.loads((folder / "metrics.json").read_text()))


def test_figures_of_training_are_not_left_out(kills, disk):
    """No checkpoint is written if its rows of metrics.csv cannot be written."""
    small = disk("size=16m")
    folder = small.path / "run"
    run = start_and_stop_at_checkpoint(kills, folder)
    disk("size=64m", folder / "checkpoints")
    small.fill()
    run.go_on()
    assert f"metrics.csv: {FULL}" in failure(run)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("size=64m,nr_inodes=3", "(no inodes)"),
        ("size=64m,nr_inodes=10", "(no inodes)"),
        ("size=8k", FULL),
        ("size=64k", FULL),
    ],
)
def test_a_disk_that_is_full_at_the_start_ends_the_run_with_one_line(kills, disk, options, reason):
    small = disk(options)
    assert reason in failure(kills.start("gan", [*QUICK, f"hydra.run.dir={small.path / 'run'}"]))
    assert not list(small.path.rglob(".*.tmp"))


def test_read_only_places_are_named_at_once(kills, disk, tmp_path):
    folder = disk("size=1m").path
    with read_only(folder):
        here = kills.server.start(QUICK, tmp_path / "out", cwd=folder)
        there = kills.start("gan", [*QUICK, f"hydra.run.dir={folder / 'run'}"])
        for run, name in ((here, "runs/fc_digits/"), (there, f"{folder}/run")):
            assert run.wait() == 2
            (line,) = run.said.splitlines()
            assert line.startswith(f"error: hydra.run.dir={name}")
            assert line.endswith("Read-only file system; choose another folder with out=DIR")


@pytest.mark.parametrize("reason", ["read-only file system", FULL])
def test_uncached_feature_net_loses_no_metric(kills, disk, tmp_path, reason):
    small = disk("size=1m")
    if reason == FULL:
        small.fill()
    with read_only(small.path):
        run = _measured(kills, tmp_path, small.path / "cache")
        assert "the feature network is not cached" in success(run)
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert values["test/fid_own"] > 0


def test_without_a_home_the_cache_is_left_out(kills, mountable, tmp_path):
    if not mountable:
        pytest.skip(ROOT_ONLY)
    users = [["--bind", "/dev/null", f"/etc/{name}"] for name in ("passwd", "nsswitch.conf")]
    run = _measured(kills, tmp_path, None, mounts=users, environment={"HOME": None})
    assert "cache=~/.cache/atelier not used (a path starts with ~, but there is" in success(run)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test/fid_own"] > 0


def _measured(kills, folder, cache, **how):
    """A short GAN with `quality`, whose feature network trains for three steps."""
    nets = ("model.net.generator.hidden_dims=[16]", "model.net.discriminator.hidden_dims=[16]")
    given = (*QUICK, "model=gan", *nets, "callbacks=default", "trainer.max_epochs=1")
    where = [f"hydra.run.dir={folder / 'run'}", *([f"cache={cache}"] if cache else [])]
    short = {"src.metrics.features.STEPS": 3}
    return kills.server.start([*given, *where], folder / "out", patches=short, **how)


def test_decoded_images_that_cannot_be_cached_are_decoded_again(kills, disk, tmp_path):
    small = disk("size=64k")
    small.fill()
    photos = ("data=folder", f"data.root={kills.inputs / 'photos'}", "data.size=64", *QUICK[2:])
    where = (f"hydra.run.dir={tmp_path / 'run'}", f"cache={small.path / 'cache'}")
    said = success(kills.server.start([*photos, *where, "data.test_size=8"], tmp_path / "out"))
    assert said.count("decoded images are not cached") == 1


@pytest.fixture
def stranger():
    """A folder that any user may write."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_a_folder_of_another_user_is_named(kills, stranger, mountable):
    if not mountable:
        pytest.skip("becoming another user takes root")
    folder = stranger / "run"
    success(kills.server.start([*QUICK, f"hydra.run.dir={folder}"], stranger / "out"))
    resume = [f"resume={folder}", "trainer.max_epochs=2"]
    line = failure(kills.server.start(resume, stranger / "out", uid=STRANGER))
    assert "permission denied; the checkpoint of batch 2 is intact: check the permissions" in line


def test_a_limit_on_file_sizes_ends_the_run(kills, tmp_path):
    folder = tmp_path / "run"
    given = [*QUICK, f"hydra.run.dir={folder}"]
    line = failure(kills.server.start(given, tmp_path, limits={"RLIMIT_FSIZE": 30_000}))
    assert "last.ckpt: file too large; nothing is saved yet: raise ulimit -f" in line


@pytest.mark.parametrize("files", [16, 24])
def test_too_few_open_files_are_named(kills, tmp_path, files):
    photos = ("data=folder", f"data.root={kills.inputs / 'photos'}", "data.in_memory=false")
    given = (*QUICK[2:], *photos, "data.size=16", "data.test_size=8", "data.workers=2")
    where = f"hydra.run.dir={tmp_path / 'run'}"
    run = kills.server.start([*given, where], tmp_path, limits={"RLIMIT_NOFILE": files})
    assert run.wait() in (0, 1)
    assert "Traceback" not in run.said
