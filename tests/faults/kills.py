"""Interrupt runs at random, resume them until they end, and compare them with whole runs.

python -m tests.faults.kills                       200 kills over all families, about 40 minutes
python -m tests.faults.kills --only gan --seed 7   one interrupted run again

Each interrupted run is a line in the CSV file. Seeds that are in it are skipped, so a stopped call
can be continued.
"""

import argparse
import csv
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from tests.faults.families import FAMILIES, make_inputs
from tests.faults.processes import Run, Server, start_plain
from tests.faults.table import table

RESULTS = Path("docs") / "results" / "faults.csv"
SIGNALS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGTERM twice", "SIGINT", "SIGINT group", "SIGHUP")
# ends of the names of times
TIMES = ("seconds", "spent", "images_per_second", "peak_memory_mb")
BATCH = re.compile(r"epoch (\d+)/\d+ batch (\d+)/(\d+)")
RESUMED = re.compile(r"resuming .* after (\d+) batches")
OWN = ("train.log", "events.out.tfevents", ".lock", "overrides.yaml")  # a session's own files


@dataclass
class Cut:
    """How one run was interrupted, resumed, and ended.

    Attributes:
        signal: what interrupted it, one of `SIGNALS`.
        kills: signals that met it running.
        resumes: sessions that went on from a checkpoint.
        lost: batches at most that an interruption lost: those after the last checkpoint.
        equal: does it end as the uninterrupted run does?
        problems: in words, where it does not.
    """

    family: str
    precision: str
    seed: int
    signal: str
    kills: int = 0
    resumes: int = 0
    lost: int = 0
    equal: bool = False
    problems: str = ""


class Kills:
    """Runs and their uninterrupted twins.

    Args:
        top: folder of all that they write.
        server: starts those of one process.
    """

    def __init__(self, top: Path, server: Server) -> None:
        self.top, self.server = top, server
        self.inputs = make_inputs(top / "inputs", server)
        self.uninterrupted: dict[tuple[str, str], tuple[Path, float]] = {}  # folder and seconds

    def start(self, name: str, arguments: list[str]) -> Run:
        outputs = self.top / "outputs"
        if FAMILIES[name].processes > 1:
            return start_plain(arguments, outputs)
        return self.server.start(arguments, outputs)

    def arguments(self, name: str, precision: str, folder: Path, *more: str) -> list[str]:
        """The command line of a family's run in `folder`, with `more` overrides."""
        arguments = FAMILIES[name].arguments(self.inputs, precision)
        return [*arguments, *more, f"hydra.run.dir={folder}"]

    def new(self, name: str, precision: str, folder: Path, *more: str) -> Run:
        """Start the run of a family in `folder`."""
        return self.start(name, self.arguments(name, precision, folder, *more))

    def twin(self, name: str, precision: str) -> tuple[Path, float]:
        """Return the folder of the run that is never interrupted, and how many seconds it takes."""
        if (name, precision) not in self.uninterrupted:
            folder = self.top / f"uninterrupted {name} {precision}".replace(" ", "_").replace(
                ",", ""
            )
            start = time.monotonic()
            run = self.new(name, precision, folder)
            assert run.wait() == 0, run.said
            self.uninterrupted[name, precision] = folder, time.monotonic() - start
        return self.uninterrupted[name, precision]

    def cut(self, name: str, precision: str, seed: int, once_by: str | None = None) -> Cut:
        """Cut the run of a family at moments drawn by `seed`, resume it until it ends, compare.

        With `once_by`, one of `SIGNALS`, interrupt it once, soon after its first checkpoint.
        """
        uninterrupted, seconds = self.twin(name, precision)
        draw = random.Random(f"{name} {precision} {seed}")
        result = Cut(name, precision, seed, once_by or draw.choice(SIGNALS))
        folder = self.top / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        planned, problems = 1 if once_by else draw.randint(1, 4), []
        while not problems:
            resumed = has_checkpoint(folder)
            run = (
                self.start(name, [f"resume={folder}"])
                if resumed
                else self.new(name, precision, folder)
            )
            result.resumes += resumed
            if result.kills < planned and reach(run, folder, seconds, draw, bool(once_by)):
                result.kills += stop(run, result.signal)
            code = run.wait()
            problems += complaints(run, code, result.signal, folder)
            if code == 0:
                break
            result.lost = max(result.lost, lost(folder))
        if not problems:
            problems = differences(uninterrupted, folder)
        result.equal, result.problems = not problems, "; ".join(problems[:3])
        return result


def reach(run: Run, folder: Path, seconds: float, draw: random.Random, soon: bool) -> bool:
    """Wait for a moment of a run of about `seconds`: in a save, while it trains and tests, or any.

    `soon`: a moment soon after its first checkpoint. Returns whether the run goes on still.
    """
    kind = draw.random()
    if soon:
        begun = run.until(lambda: has_checkpoint(folder))
        return begun and run.poll(draw.uniform(0, 0.1) * seconds) is None
    if kind < 0.3:
        saves = draw.randint(1, 6)
        return all(run.until(lambda: is_saving(folder)) for _ in range(saves))
    if kind < 0.9:
        begun = run.until(lambda: " parameters, " in run.said)
        return begun and run.poll(draw.uniform(0, 0.6) * seconds) is None
    return run.poll(draw.uniform(0, 1) * seconds) is None


def stop(run: Run, kind: str) -> bool:
    """Send the signal `kind`; returns whether it met the process."""
    name, _, how = kind.partition(" ")
    met = run.poll() is None
    run.kill(getattr(signal, name), group=how == "group")
    if how == "twice":  # as Slurm does
        time.sleep(0.023)
        run.kill(getattr(signal, name))
    return met


def is_saving(folder: Path) -> bool:
    return any((folder / "checkpoints").glob(".last.ckpt.*.tmp"))


def has_checkpoint(folder: Path) -> bool:
    return any((folder / "checkpoints" / f"{name}.ckpt").exists() for name in ("last", "previous"))


def complaints(run: Run, code: int, kind: str, folder: Path) -> list[str]:
    """Return what is wrong with how a process that got the signal `kind` ended."""
    number = int(getattr(signal, kind.partition(" ")[0]))
    # Python itself is ended before and after our own code runs
    outside = not (folder / "train.log").exists() or (folder / "metrics.json").exists()
    wanted = {0, 128 + number} | ({-number} if kind == "SIGKILL" or outside else set())
    found = [] if code in wanted else [f"exit code {code}: {run.said[-300:]}"]
    return found + (["traceback: " + run.said[-300:]] if "Traceback" in run.said else [])


def lost(folder: Path) -> int:
    """Return the batches of the last session that its run has to train again."""
    if not has_checkpoint(folder):
        return 0
    text = (folder / "train.log").read_text().rpartition("resuming ")[2]
    batches = [(int(e) - 1) * int(n) + int(b) for e, b, n in BATCH.findall(text)]
    return max(0, max(batches, default=0) - batches_saved(folder))


def batches_saved(folder: Path) -> int:
    from src.core import runs
    from src.engine.resume import batches_done

    return batches_done(runs.load_last(folder))


def differences(uninterrupted: Path, cut: Path) -> list[str]:
    """Return how two finished runs differ, apart from times and messages of single sessions."""
    found: list[str] = []
    states = [
        torch.load(f / "checkpoints/last.ckpt", weights_only=True) for f in (uninterrupted, cut)
    ]
    compare(*states, "last.ckpt", found.append)
    compare(*(_rows(folder) for folder in (uninterrupted, cut)), "metrics.csv", found.append)
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (uninterrupted, cut)]
    compare(*figures, "metrics.json", found.append)
    names = [_files(folder) for folder in (uninterrupted, cut)]
    found += [f"files: {sorted(names[0] ^ names[1])}"] if names[0] != names[1] else []
    for name in sorted(names[0] & names[1]):
        if (
            name.startswith("images/")
            and (uninterrupted / name).read_bytes() != (cut / name).read_bytes()
        ):
            found.append(name)
    return found


def compare(a: Any, b: Any, where: str, report: Callable[[str], None]) -> None:
    """Report each place where two values are not equal to the last bit, times left out."""
    if isinstance(a, dict) and isinstance(b, dict):
        a, b = timeless(a), timeless(b)
        for key in {**a, **b}:
            if key in a and key in b:
                compare(a[key], b[key], f"{where}: {key}", report)
            else:
                kind = "uninterrupted" if key in a else "interrupted"
                report(f"{where}: {key} is only in the {kind} run")
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            compare(x, y, f"{where}[{i}]", report)
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype != b.dtype or not torch.equal(a, b):
            report(f"{where}: tensors differ")
    elif type(a) is not type(b) or (a != b and not (a != a and b != b)):  # NaN equals NaN
        report(f"{where}: {a} and {b}")


def _rows(folder: Path) -> list[dict[str, Any]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def timeless(values: dict[Any, Any]) -> dict[Any, Any]:
    """Return `values` without those that differ from run to run."""
    return {name: value for name, value in values.items() if not str(name).endswith(TIMES)}


def _files(folder: Path) -> set[str]:
    files = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name for name in files if not any(own in name for own in OWN)}


def plan(kills: int, seed: int, only: str | None) -> list[tuple[str, str, int]]:
    """Return (family, precision, seed) of each run, the families alternating, for about `kills`."""
    kinds = [(name, precision) for name, run in FAMILIES.items() for precision in run.precisions]
    kinds = [(name, precision) for name, precision in kinds if only in (None, name)]
    rounds = max(1, round(kills / (2.2 * len(kinds))))
    return [(*kind, seed + k) for k in range(rounds) for kind in kinds]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="about so many in all")
    parser.add_argument("--seed", type=int, default=0, help="of the first run of each family")
    parser.add_argument("--only", help="one family")
    parser.add_argument("--results", type=Path, default=RESULTS, help="CSV file to append to")
    given = parser.parse_args()
    done, names = set(), [field.name for field in fields(Cut)]
    if given.results.exists():
        with given.results.open(newline="") as file:
            done = {(r["family"], r["precision"], int(r["seed"])) for r in csv.DictReader(file)}
    else:
        given.results.parent.mkdir(parents=True, exist_ok=True)
        given.results.write_text(",".join(names) + "\n")
    server, failed = Server(), 0
    with tempfile.TemporaryDirectory(prefix="kills-") as top:
        kills = Kills(Path(top), server)
        for name, precision, seed in plan(given.kills, given.seed, given.only):
            if (name, precision, seed) in done:
                continue
            result = kills.cut(name, precision, seed)
            failed += not result.equal
            with given.results.open("a", newline="") as file:
                csv.DictWriter(file, names).writerow(asdict(result))
            print(result, flush=True)
    server.close()
    given.results.with_suffix(".md").write_text(table(given.results))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
