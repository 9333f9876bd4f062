"""The end of a sweep: sweep.csv, a table, the best run and its recipe, plots."""

import shlex
from pathlib import Path

from src.config.objective import Objective
from src.core import runs
from src.sweep.job import Job
from src.sweep.plots import draw
from src.sweep.recipe import command, without, write_recipe
from src.sweep.results import points_of, rows_of, table, write_csv

TEST_METRIC = (
    "note         the best was chosen on test data, so its value is too good: keep images for "
    "validation with data.val_size"
)


def report(
    config_name: str, jobs: list[Job], wanted: list[Objective], strict: bool, folder: Path
) -> dict[Path, str]:
    """Write the files of a sweep and print its table; return the state of each job, by folder.

    Args:
        config_name: conf/`config_name`.yaml.
        jobs: all jobs of the sweep.
        wanted: the objectives; unless `strict`, the first that all finished jobs have counts.
        folder: the sweep.
    """
    if not strict:
        found = [runs.read_metrics(job.folder) for job in jobs]
        had = [o for o in wanted if all(o.metric in metrics for metrics in found if metrics)]
        wanted = [*had, *wanted][:1]
    rows = rows_of(jobs, wanted, strict)
    points = points_of(rows, wanted)
    write_csv(rows, wanted, folder / "sweep.csv")
    print(f"\n{table(points, wanted)}\n")
    print(f"all jobs     {folder / 'sweep.csv'}")
    states = {row.job.folder: row.result.state for row in rows}
    finished = [point for point in points if point.estimates]
    if not finished or not finished[0].values:  # only seeds differ: none of them is a recipe
        return states
    best = finished[0]
    job = best.rows[0].job
    overrides = without(job.overrides, "seed") if job.values != best.values else job.overrides
    how = command(config_name, overrides)
    value = ", ".join(f"{m} {e}" for (m, _), e in zip(wanted, best.estimates, strict=True))
    recipe = folder / "best.yaml"
    write_recipe(overrides, [f"The best of {folder}: {value}", how], recipe)
    if any(metric.startswith("test/") for metric, _ in wanted):
        print(TEST_METRIC)
    print(f"best recipe  {recipe}   (use it with: {shlex.quote(f'experiment={recipe}')})")
    print(f"best run     {how}")
    for path in draw(points, wanted, folder):
        print(f"plot         {path}")
    print(f"curves       python -m src.runs compare {shlex.quote(str(folder))}")
    print(f"TensorBoard  python -m tensorboard.main --logdir {shlex.quote(str(folder))}")
    return states
