"""run.json: the state is right however a run ends, and the facts repeat the run."""

import errno
import subprocess
import sys
import threading

import pytest

from src.config.compose import compose
from src.config.overrides import quoted
from src.core import provenance, run_record, runs
from src.core.errors import Interrupted, TrainingFailed, UserError
from src.core.run_record import read, recorded, state_of
from tests.conftest import ROOT

SETTINGS = {"seed": 0, "model": {"_target_": "src.models.gan.GAN"}}


def session(folder, choices=None):
    return recorded(folder, SETTINGS, choices or {}, "python -m src.train")


def end(folder, error=None):
    """Run a session that ends with `error`; return its state."""
    try:
        with session(folder, {"model": "gan"}):
            assert read(folder)["sessions"][-1]["state"] == "running"
            if error:
                raise error
    except BaseException as raised:
        assert raised is error  # noqa: PT017
    return state_of(folder, read(folder))


@pytest.fixture(autouse=True)
def few_facts(monkeypatch):
    monkeypatch.setattr(run_record.provenance, "facts", lambda: {"commit": "abc"})


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (None, "finished", None),
        (Interrupted(15), "interrupted", None),
        (KeyboardInterrupt(), "interrupted", None),
        (TrainingFailed("the loss is nan"), "failed", "the loss is nan"),
        (ValueError("a bug"), "failed", "ValueError: a bug"),
        (MemoryError(), "failed", "MemoryError"),
    ],
)
def test_state_says_how_a_session_ended(tmp_path, error, state, words):
    assert end(tmp_path, error) == state
    last = read(tmp_path)["sessions"][-1]
    assert last["commit"] == "abc"
    assert last["seconds"] >= 0
    assert last.get("error") == words


def test_a_resumed_run_has_one_session_for_each_process(tmp_path):
    end(tmp_path, Interrupted(15))
    with session(tmp_path):
        pass
    record = read(tmp_path)
    assert [one["state"] for one in record["sessions"]] == ["interrupted", "finished"]
    assert record["choices"] == {"model": "gan"}, "a resumed run has no choices of its own"


def test_a_refused_resume_leaves_the_state_as_it_was(tmp_path):
    end(tmp_path)
    before = read(tmp_path)
    with pytest.raises(UserError), session(tmp_path):
        raise UserError("trainer.max_epochs=1 is less than the 5 epochs")
    assert read(tmp_path) == before


def test_a_resume_that_fails_after_a_checkpoint_is_recorded(tmp_path):
    end(tmp_path)
    with pytest.raises(UserError), session(tmp_path):  # noqa: PT012
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "last.ckpt").write_text("")
        raise UserError("val/los is not logged")
    record = read(tmp_path)
    assert state_of(tmp_path, record) == "failed"
    assert record["sessions"][-1]["error"] == "val/los is not logged"


def test_a_full_disk_does_not_hide_the_state(tmp_path, monkeypatch):
    """The end is written over the file of the start, which has room for it."""

    def refuse(path, write):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.raises(TrainingFailed), session(tmp_path):  # noqa: PT012
        run_record.update(tmp_path)  # as the thread and `src.train` do
        monkeypatch.setattr(run_record, "write_atomically", refuse)
        raise TrainingFailed("x" * 1000)
    assert state_of(tmp_path, read(tmp_path)) == "failed"
    assert set(read(tmp_path)["sessions"][0]["error"]) == {"x"}


def test_state_after_sigkill_is_interrupted(tmp_path):
    code = (
        "import time\nfrom pathlib import Path\nfrom src.core import runs, run_record\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "with runs.locked(folder), run_record.recorded(folder, {}, {}, ''):\n"
        "    print('started', flush=True)\n    time.sleep(100)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "started\n"
    assert state_of(tmp_path, read(tmp_path)) == "running"
    process.kill()
    process.wait()
    assert state_of(tmp_path, read(tmp_path)) == "interrupted"


def test_a_question_for_the_lock_does_not_release_it(tmp_path):
    (tmp_path / ".lock").write_text("")
    with runs.locked(tmp_path):
        assert runs.is_locked(tmp_path)
        code = (
            "from pathlib import Path; from src.core.runs import is_locked; "
            f"print(is_locked(Path({str(tmp_path)!r})))"
        )
        asked = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
    assert asked.stdout == "True\n"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sessions": 3}', '{"sessions": []}'])
def test_a_damaged_record_is_as_none(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert read(tmp_path) == {}
    assert state_of(tmp_path, {}) == "interrupted"
    (tmp_path / "metrics.json").write_text("{}")
    assert state_of(tmp_path, {}) == "finished"


def test_a_slow_git_does_not_delay_the_start(tmp_path, monkeypatch):
    release = threading.Event()

    def facts():
        assert release.wait(20)
        return {"commit": "abc"}

    monkeypatch.setattr(run_record.provenance, "facts", facts)
    with session(tmp_path):
        release.set()
    assert read(tmp_path)["sessions"][0]["commit"] == "abc"


@pytest.fixture
def repository(tmp_path):
    """A git repository with one commit of src/a.py."""
    root = tmp_path / "repository"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("a = 1\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "-m", "Add a")
    return root


def git(root, *arguments, **kwargs):
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, **kwargs
    ).stdout.strip()


def test_commit_and_diff_give_back_the_code(repository, tmp_path):
    files = {"a.py": "a = 2\n", "b.py": "b = 3\n\nc = 4", "empty.py": "", "ä.py": "# ü\n",
             "feed.py": "a = 1\n\x0c\nb = '\u2028'\n", "crlf.py": "a = 1\r\nb = 2\r\n"}  # fmt: skip
    for name, text in files.items():
        (repository / "src" / name).write_bytes(text.encode())
    (repository / "notes.txt").write_text("not code")
    commit, diff = git(repository, "rev-parse", "HEAD"), provenance.diff(repository)
    assert "notes" not in diff
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "--quiet", str(repository), str(copy))
    git(copy, "checkout", "--quiet", commit)
    git(copy, "apply", input=diff)
    found = {path.name: path.read_bytes().decode() for path in (copy / "src").iterdir()}
    assert found == files


def test_facts_outside_a_repository_have_no_commit(tmp_path, repository, monkeypatch):
    monkeypatch.undo()  # the real facts
    inside = provenance.facts(repository)
    assert inside["commit"] == git(repository, "rev-parse", "HEAD")
    assert inside["diff"] == ""
    installed = provenance.facts(repository / "src")  # such as a .venv in somebody's repository
    assert installed["commit"] is installed["diff"] is None
    assert installed["packages"]["torch"]
    assert installed["hardware"]["cores"] >= 1
    monkeypatch.setenv("PATH", "")
    assert provenance.facts(repository)["commit"] is None, "git is not installed"


@pytest.mark.parametrize("note", ["two words, and a comma", "{x}: [1", "it's", "null and 3", "7"])
def test_a_note_is_free_text(note):
    cfg = compose("train", [quoted(f"note={note}")])
    assert cfg.note == note
    assert compose("train", [quoted("note=null")]).note is None
