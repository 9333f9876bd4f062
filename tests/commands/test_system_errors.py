"""Errors of the system: each becomes one line, and optional outputs are left out with one line."""

import contextlib
import errno
import json
import logging
import os
import pwd
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.callbacks import loggers
from src.callbacks.loggers import Events
from src.config.jobs import is_lost_process
from src.core.errors import optional, os_failure
from src.core.files import LogFile, shared_folder, write_atomically, write_or_remove
from src.data import order
from src.data.images import ImageSet
from tests.conftest import ROOT, TINY, command

SMALLER = "smaller batches or images need less)"
FULL = OSError(errno.ENOSPC, "No space left on device", "/disk/last.ckpt")


@contextlib.contextmanager
def small_files(limit):
    """Let no file grow above `limit` bytes, which acts like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("error", "reason", "advice"),
    [
        (FULL, "/disk/last.ckpt: no space left on device", "free some space"),
        (
            OSError(errno.EROFS, "Read-only file system"),
            "read-only file system",
            "make it writable",
        ),
        (OSError(errno.EIO, "Input/output error"), "input/output error", "check the disk"),
        (
            OSError("Caught OSError in worker 0.\nOSError: [Errno 5] Input/output error: '/x.png'"),
            "OSError: [Errno 5] Input/output error: '/x.png'",
            "try again",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "a process that reads images died (is killed by signal: Killed)",
            "give it more memory, or lower data.workers",
        ),
        (MemoryError(), f"out of memory ({SMALLER}", "free some memory"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 1"),
            f"out of memory (20.00 MiB more are needed; {SMALLER}",
            "free some memory",
        ),
    ],
)
def test_errors_of_the_system_are_one_line(error, reason, advice):
    assert os_failure(error) == (reason, advice)
    outer = ValueError("of a library")
    outer.__cause__ = error
    assert os_failure(outer) == (reason, advice)


def test_memory_of_the_cpu_that_is_not_there_is_one_line():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    reason = f"out of memory (4000000000000000 bytes more are needed; {SMALLER}"
    assert os_failure(caught.value) == (reason, "free some memory")


@pytest.mark.parametrize(
    ("error", "together", "lost"),
    [
        (torch.distributed.DistBackendError("timed out"), True, True),
        (torch.distributed.DistStoreError("a process never connected"), False, True),
        (RuntimeError("[../gloo/transport/tcp/pair.cc] Connection closed by peer"), True, True),
        (RuntimeError("NCCL communicator was aborted"), True, True),
        (RuntimeError("gloo"), False, False),
        (RuntimeError("invalid multinomial distribution"), True, False),
        (RuntimeError("in torch.nn.parallel.DistributedDataParallel, parameters ..."), True, False),
        (RuntimeError("File /usr/lib/python3/dist-packages/torch/x.py"), True, False),
    ],
)
def test_lost_process_is_told_from_other_errors(error, together, lost, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: together)
    assert is_lost_process(error) == lost


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("shapes"), OSError("cannot write mode RGBA"), None]
)
def test_other_exceptions_are_not_errors_of_the_system(error):
    assert os_failure(error) is None


def test_optional_output_is_left_out_with_one_line_per_folder(tmp_path, caplog):
    for name in ("a", "a", "b"):
        with optional("no pictures", tmp_path / name):
            raise FULL
    assert caplog.messages == ["no pictures (/disk/last.ckpt: no space left on device)"] * 2
    with (
        pytest.raises(ValueError, match="ours"),
        optional("no pictures", tmp_path),
    ):
        raise ValueError("ours")


@pytest.mark.parametrize("missing", [380_000, 4000, 3000, 1500, 100])
def test_failed_torch_save_says_why_and_keeps_the_old_file(tmp_path, missing):
    """torch itself raises a RuntimeError without the reason.

    Its words depend on the part of the file for which there is no room.
    """
    path = tmp_path / "last.ckpt"
    torch.save(torch.zeros(100_000), path)
    limit = path.stat().st_size - missing
    path.write_text("old")
    with small_files(limit), pytest.raises(OSError, match="File too large") as raised:
        write_atomically(path, lambda temporary: torch.save(torch.zeros(100_000), temporary))
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(path))
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_devices_pipes_and_links_stay_what_they_are(tmp_path):
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to("real")
    write_atomically(link, lambda path: path.write_text("new"))
    assert (link.is_symlink(), real.read_text()) == (True, "new")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, lambda path: path.write_text("through"))
    assert os.read(reader, 99) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe", "real"]


def test_other_runtime_errors_are_not_changed(tmp_path):
    def fail(path):
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        write_atomically(tmp_path / "x", fail)


def test_half_a_picture_is_removed(tmp_path):
    path = tmp_path / "x.png"
    with small_files(10), pytest.raises(OSError, match="File too large"):
        write_or_remove(path, lambda file: file.write_bytes(bytes(20)))
    assert not path.exists()


def test_a_log_that_cannot_be_written_says_so_once(capsys):
    log = logging.getLogger("test_system_errors")
    log.addHandler(handler := LogFile("/dev/full"))
    for _ in range(3):
        log.error("a line")
    log.removeHandler(handler)
    handler.close()
    said = capsys.readouterr().err
    assert said == "could not write /dev/full (no space left on device)\n"


def test_events_on_a_full_disk_are_dropped_and_the_others_can_be_read(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(loggers, "FLUSH_SECONDS", 1e9)
    writer = Events(str(tmp_path))
    for step in range(1, 5):
        writer.add_scalar("x", step, step)
        writer.add_text("long", "y" * 3000, step)
        with small_files(5000 if step in (2, 3) else 10**6):
            writer.flush()
    writer.close()
    assert [message.partition(" (")[0] for message in caplog.messages] == [
        "could not write TensorBoard's events"
    ]
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert [event.step for event in accumulator.Scalars("x")] == [1, 4]


def test_no_cache_without_a_home_folder(monkeypatch, caplog):
    def unknown(uid):
        raise KeyError(uid)

    assert shared_folder("~/cache") == Path.home() / "cache"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    caplog.set_level(logging.INFO)
    assert shared_folder("~/cache") is None
    assert caplog.messages == [
        "cache=~/cache not used (a path starts with ~, but there is no home folder); "
        "to use another folder: cache=DIR"
    ]
    assert shared_folder("/cache") == Path("/cache")
    assert shared_folder(None) is None


def batches(workers):
    images = torch.arange(20 * 3 * 4 * 4).view(20, 3, 4, 4).byte()
    part = ImageSet(images, torch.arange(20))
    return list(order.loader(part, 8, 0, stage="train", trainer=None, workers=workers))


@pytest.mark.parametrize("way", ["pipe", "shared memory", "no shared memory", "no semaphores"])
def test_batches_are_the_same_however_they_come_from_workers(monkeypatch, way):
    def refuse(*args):
        raise {"no shared memory": RuntimeError, "no semaphores": FULL}[way]

    if way != "pipe":
        monkeypatch.setattr(order, "SMALL", 0)  # in the workers too, as they are forked
    if way == "no shared memory":
        monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    elif way == "no semaphores":
        monkeypatch.setattr(order, "_try_queues", refuse)
    for one, other in zip(batches(0), batches(2), strict=True):
        for part, same in zip(one, other, strict=True):
            assert part.dtype == same.dtype
            assert torch.equal(part, same)


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_ends_the_command_with_one_line(tmp_path):
    """The line says what was saved and what to do, and the run continues from there."""
    folder = tmp_path / "run"
    given = ("data=digits", "model=fc", *TINY, "trainer.max_epochs=1", "test=false")
    assert command("train", *given, f"hydra.run.dir={folder}").returncode == 0
    size = (folder / "checkpoints" / "last.ckpt").stat().st_size
    again = (f"resume={folder}", "trainer.max_epochs=2")
    with small_files(size // 2):
        failure = command("train", *again)
    assert failure.returncode == 1
    assert "Traceback" not in failure.stderr
    assert failure.stderr.splitlines()[-1] == (
        f"error: {folder}/checkpoints/last.ckpt: file too large; the checkpoint of batch 4 is "
        f"intact: raise ulimit -f, then resume with: python -m src.train resume={folder}"
    )
    assert command("train", *again).returncode == 0
    assert json.loads((folder / "metrics.json").read_text())["batches"] == 8


def test_a_bug_ends_the_command_with_its_traceback(tmp_path):
    """It once hung: the error was raised from itself, and its causes were followed forever."""
    code = (
        "import sys; from src.config import cli\n"
        "def task(cfg, folder): raise ValueError('a bug')\n"
        f"sys.argv = ['train', 'hydra.run.dir={tmp_path / 'run'}']\n"
        "sys.exit(cli.launch('train', task, None, ''))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "ValueError: a bug"
    log = (tmp_path / "run" / "train.log").read_text()
    assert "Traceback" in log
    assert log.endswith("ValueError: a bug\n")
