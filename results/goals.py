"""The table of speed.md that says which recipes reach the goal of the benchmark."""

import statistics

from results.tables import Metric, Runs, fact, label, markdown, read

GOAL, SHORT = 0.9, 5.0  # share of the speed of another loop; milliseconds of a batch
MACHINES = {"EPYC": "speed", "Xeon": "speed_xeon", "newer Xeon": "speed_xeon_new"}


def goals() -> str:
    """Return a table: for each recipe and machine, whether ours reaches the goal."""
    tables = [read(name) for name in MACHINES.values()]
    lines = [[label(tables[0], run), *(verdict(runs, run) for runs in tables)] for run in tables[0]]
    return markdown(["recipe", *MACHINES], lines)


def verdict(runs: Runs, run: str) -> str:
    """Return `met: 1.04 of empty`, or `missed: ...`, by the median of the ratios.

    Ours is compared with an empty Trainer if its batches take less than 5 ms, else with the lean
    loop.
    """
    rates = Metric("ours_images_per_second").values(runs, run)
    batch = 1000 * int(fact("batch")(runs, run)) / statistics.median(rates)
    loop = "empty" if batch < SHORT else "lean"
    ratio = statistics.median(Metric(f"ratio_{loop}").values(runs, run))
    return f"{'met' if ratio >= GOAL else 'missed'}: {ratio:.3f} of {loop}"
