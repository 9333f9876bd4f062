"""List runs, and compare them.

python -m src.runs                                            all runs below `runs`
python -m src.runs out=DIR where='model=dcgan,test/fid_own<5' sort=test/fid_own
python -m src.runs average_seeds=true csv=runs.csv            mean and interval over the seeds
python -m src.runs compare RUN OTHER [...]                    settings that differ, metrics, curves
python -m src.runs compare FOLDER metrics='[val/loss,val/acc]' out=curves.png

`where` has conditions with commas between them: KEY=TEXT and KEY!=TEXT, in which * and ? match any
characters, and KEY<NUMBER, <=, >, >=. A key is a column of the table, a metric (test/acc), a group
(model/loss) or a setting (model.optimizer.lr). `sort=-KEY` sorts in descending order. A + after a
commit means that the code had changes that were not committed; run.json in the run has them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from src.config import cli
from src.config.overrides import as_text
from src.core.counts import count
from src.core.errors import UserError, writing
from src.core.run_search import LAST, find_run, is_folder, is_run, runs_below
from src.runs import compare as comparison
from src.runs.differences import short_names, what_differs
from src.runs.info import RunInfo
from src.runs.seeds import Group, grouped, repeats_line, without_repeats
from src.runs.table import run_table, write_csv
from src.runs.where import conditions, expect_keys, ordered, select


def list_runs(cfg: DictConfig) -> list[RunInfo]:
    """Print the runs that `cfg` selects; return them in the order of the table."""
    top = Path(cfg.out).expanduser()
    if not top.is_dir():
        raise UserError(f"out={top} is not a folder: give the folder that holds the runs")
    found = [RunInfo(folder, top) for folder in runs_below(top)]
    if not found:
        raise UserError(f"there is no run below {top}: give another folder with out=DIR")
    metrics = names(cfg.metrics)
    expect_keys(found, metrics or [], "metrics")
    more = [condition.key for condition in conditions(cfg.where)] if cfg.where is not None else []
    more.append(cfg.sort.removeprefix("-"))
    chosen = found if cfg.where is None else select(found, cfg.where)
    groups = ordered(grouped(chosen, average=False), cfg.sort) if chosen else []
    chosen, repeats = [group.first for group in groups], list[RunInfo]()
    if chosen and cfg.average_seeds:
        kept, repeats = without_repeats(chosen)
        groups = ordered(grouped(kept), cfg.sort)
    if chosen:
        more = [name for name in more if name not in chosen[0].fields]
        if cfg.average_seeds:
            print(run_table(groups, metrics, more, names=short_names(groups)))
        else:
            print(run_table(groups, metrics, more, differs=what_differs(chosen)))
    print(f"{count(len(chosen), 'run')} of {len(found)} below {top}")
    if repeats:
        print(repeats_line(repeats))
    if cfg.csv is not None:
        path = Path(cfg.csv).expanduser()
        with writing(f"csv={path}"):
            write_csv(chosen, path)
        print(f"{path}: all metrics and settings")
    return chosen


def compare(cfg: DictConfig) -> None:
    """Print and draw the comparison of the runs in cfg.runs."""
    given = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    groups, repeats = compared_groups(given, cfg.average_seeds)
    found = [run for group in groups for run in group.members]
    metrics = names(cfg.metrics)
    expect_keys(found, metrics or [], "metrics")
    drawn = comparison.curves(groups, comparison.curve_names(groups, metrics))
    print(comparison.report(groups, comparison.metric_names(groups, metrics), drawn))
    if repeats:
        print(f"\n{repeats_line(repeats)}")
    if cfg.out is not None and drawn:
        path = Path(cfg.out).expanduser()
        with writing(f"out={path}"):
            comparison.draw(groups, drawn, path)
        print(f"\npicture  {path}")


def compared_groups(
    given: Sequence[str], average: bool | None
) -> tuple[list[Group], list[RunInfo]]:
    """Return the groups to compare, and the runs that were left out because they repeat a seed.

    Args:
        given: runs, and folders of runs.
        average: whether runs that differ only in their seed are one group; None: those of one
            folder are, and a run that was given by itself is a group of its own.
    """
    folders = [Path(name).expanduser() for name in given]
    for folder in folders:
        if [one.resolve() for one in folders].count(folder.resolve()) > 1:
            raise UserError(f"compare: {folder} is given twice; give another run")
    parts: list[list[RunInfo]] = []
    known: set[Path] = set()  # a run may also be below a folder that is given
    for folder in folders:
        parts.append([RunInfo(run) for run in expand(folder) if run.resolve() not in known])
        known |= {run.folder.resolve() for run in parts[-1]}
    runs = [run for part in parts for run in part]
    if len(runs) < 2:
        raise UserError(
            f"compare needs two runs, not {len(runs)}: python -m src.runs compare RUN OTHER"
        )
    if average is not None:
        parts = [runs]
    groups, left_out = [], []
    for part in parts:
        kept, repeats = without_repeats(part) if average is not False else (part, [])
        groups += grouped(kept, average is not False)
        left_out += repeats
    return groups, left_out


def is_run_argument(word: str) -> bool:
    """Return whether an argument names a folder, whose name may contain =, and no setting."""
    return not word.startswith("-") and (
        "/" in word.partition("=")[0] or is_folder(word) or "=" not in word
    )


def expand(folder: Path) -> list[Path]:
    """Return the run in `folder`, or the runs below it, such as those of a sweep."""
    found = [folder] if is_run(folder) else list(runs_below(folder))
    if not found:
        raise UserError(f"{folder} is not the folder of a run, and holds none")
    return found


def names(setting: str | Sequence[str] | None) -> list[str] | None:
    """Return a setting that is a name, or a list of names, as a list."""
    return [setting] if isinstance(setting, str) else None if setting is None else list(setting)


def main() -> int:
    """Run the command line; return the exit code."""
    argv, doc = sys.argv[1:], __doc__ or ""
    if argv[:1] != ["compare"]:
        return cli.command("runs", list_runs, doc, argv)

    def overrides() -> list[str]:
        named = [word for word in argv[1:] if is_run_argument(word)]
        # `last` is a run; a folder of runs means all of them here
        paths = ",".join(
            as_text(find_run(word, "compare") if Path(word).name == LAST else word)
            for word in named
        )
        rest = [word for word in argv[1:] if word not in named]
        return [*([f"runs=[{paths}]"] if named else []), *rest]

    return cli.command("compare", compare, doc, overrides)


if __name__ == "__main__":
    sys.exit(main())
