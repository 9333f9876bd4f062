"""The page docs/results/faults.md, from the CSV file of `tests.faults.kills`."""

import csv
from collections import defaultdict
from pathlib import Path

TEXT = """# Interrupted runs

    make kills ARGS="--results kills.csv"

Each run is interrupted by real signals at random moments, a third of them while a checkpoint is
saved, and resumed until it ends. Then it is compared with a run that was never interrupted. The
file [faults.csv](faults.csv) has one line for each run, also for runs that ended before a signal.

Two runs are equal if they have the same bits in the checkpoint (weights, optimizers, callbacks),
the same rows in `metrics.csv`, the same `metrics.json` and the same bytes in every picture. Times
and memory use may differ.

{runs} runs were interrupted {kills} times. {equal} of the {runs} runs are equal to uninterrupted
ones. A checkpoint was saved every 3 batches. A run that is interrupted before its first checkpoint
starts again, so there are fewer resumes than interruptions.

- The column "lost batches" is the largest number of batches that one interruption cost.
- "SIGTERM twice" is two signals 23 ms apart, as Slurm sends them.
- "SIGINT group" goes to all processes of the terminal, including workers.

| family | precision | signal | runs | interruptions | resumes | equal runs | lost batches |
| --- | --- | --- | --: | --: | --: | --: | --: |
{rows}
"""


def table(results: Path) -> str:
    """Return the page for the results in a CSV file: a row per family, precision and signal."""
    with results.open(newline="") as file:
        cuts = [cut for cut in csv.DictReader(file) if int(cut["kills"])]
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = defaultdict(list)
    for cut in cuts:
        groups[cut["family"], cut["precision"], cut["signal"]].append(cut)
    rows = []
    for (family, precision, signal), part in sorted(groups.items()):
        kills, resumes = (sum(int(cut[name]) for cut in part) for name in ("kills", "resumes"))
        lost = max(int(cut["lost"]) for cut in part)
        cells = (family, precision, signal, len(part), kills, resumes, count_equal(part), lost)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return TEXT.format(
        kills=sum(int(cut["kills"]) for cut in cuts),
        runs=len(cuts),
        equal=count_equal(cuts),
        rows="\n".join(rows),
    )


def count_equal(cuts: list[dict[str, str]]) -> int:
    return sum(cut["equal"] == "True" for cut in cuts)
