"""Fill the tables of the result pages from results/*.csv.

python -m results.tables            rewrite the tables of RESULTS.md, README.md and docs/results/
python -m results.tables --check    exit with 1 if a page is out of date

A page holds a table between `<!-- table: NAME -->` and `<!-- end -->`. NAME is a key of TABLES, and
results/NAME.csv holds its values, one per line (see results/README.md). To add a result, add lines
to the CSV file and run the command. To add a table, add a CSV file, an entry in COLUMNS and the two
markers on a page.
"""

import csv
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.metrics.intervals import mean_interval, wilson

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
FIELDS = ["run", "seed", "metric", "value", "commit", "machine", "command"]
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Values = dict[str, dict[str, str]]  # metric -> seed -> value; seed "" for a fact about the run
Runs = dict[str, Values]  # run -> its values
Cell = Callable[[Runs, str], str]  # (all runs of the table, this run) -> text of the cell


def read(name: str) -> Runs:
    """Return the values of results/NAME.csv, in the order of the file."""
    runs: Runs = {}
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            runs.setdefault(row["run"], {}).setdefault(row["metric"], {})[row["seed"]] = row[
                "value"
            ]
    return runs


def label(runs: Runs, run: str) -> str:
    """Show the run's label, or its name as code."""
    return fact("label")(runs, run) or f"`{run}`"


def fact(metric: str) -> Cell:
    """Show a fact that does not depend on the seed, such as the number of epochs."""
    return lambda runs, run: runs[run].get(metric, {}).get("", "")


@dataclass(frozen=True)
class Metric:
    """A metric with one value per seed. Its methods are cells.

    Attributes:
        name: name in metrics.json.
        digits: number of decimals shown.
        scale: factor on the values shown; 100 for percent.
        ends: number of decimals of the ends of an interval; None: the same as `digits`.
    """

    name: str
    digits: int = 2
    scale: float = 1
    ends: int | None = None

    def values(self, runs: Runs, run: str) -> list[float]:
        """Return the values of seeds 0, 1, ..., scaled."""
        by_seed = runs[run].get(self.name, {})
        seeds = sorted(int(seed) for seed in by_seed if seed.isdigit())
        return [self.scale * float(by_seed[str(seed)]) for seed in seeds]

    def kept(self, runs: Runs, run: str, statistic: str, computed: float | None) -> float | None:
        """Return a statistic (mean, min, low, ...) from the CSV file, else the computed one."""
        value = runs[run].get(self.name, {}).get(statistic)
        return computed if value is None else self.scale * float(value)

    def show(self, value: float | None, digits: int | None = None) -> str:
        return "" if value is None else f"{value:,.{self.digits if digits is None else digits}f}"

    def each(self, runs: Runs, run: str) -> str:
        """Show the values of all seeds: `12.22, 9.70, 11.94`."""
        return ", ".join(map(self.show, self.values(runs, run)))

    def mean(self, runs: Runs, run: str) -> str:
        """Show the mean from the CSV file as it is written there, else the mean over seeds."""
        written = runs[run].get(self.name, {}).get("mean")
        if written is not None and self.scale == 1:
            return written
        values = self.values(runs, run)
        return self.show(self.kept(runs, run, "mean", statistics.mean(values) if values else None))

    def least(self, runs: Runs, run: str) -> str:
        values = self.values(runs, run)
        return self.show(self.kept(runs, run, "min", min(values, default=None)))

    def mean_std(self, runs: Runs, run: str) -> str:
        """Show the mean and the standard deviation over seeds: `0.69 ± 0.05`."""
        values = self.values(runs, run)
        spread = f" ± {self.show(statistics.stdev(values))}" if len(values) > 1 else ""
        return self.mean(runs, run) + spread

    def mean_interval(self, runs: Runs, run: str) -> str:
        """Show the mean and Student's 95% interval: `49.69 (46.2 to 53.2)`."""
        values = self.values(runs, run)
        if len(values) < 2:
            return self.mean(runs, run)
        low, high = mean_interval(values)
        first = self.show(self.kept(runs, run, "low", low), self.ends)
        last = self.show(self.kept(runs, run, "high", high), self.ends)
        return f"{self.mean(runs, run)} ({first} to {last})"

    def share_interval(self, runs: Runs, run: str) -> str:
        """Show each share of `test/n` images, in percent, with Wilson's 95% interval."""
        n = int(fact("test/n")(runs, run) or 0)
        shown = []
        for value in self.values(runs, run):
            low, high = (100 * end for end in wilson(round(value / 100 * n), n))
            ends = f"{self.show(low, self.ends)} to {self.show(high, self.ends)}"
            shown.append(f"{self.show(value)} ({ends})")
        return ", ".join(shown)

    def stored_interval(self, runs: Runs, run: str) -> str:
        """Show the value of each seed with the interval stored as NAME_low and NAME_high."""
        names = (self.name, f"{self.name}_low", f"{self.name}_high")
        columns = [Metric(name, scale=self.scale).values(runs, run) for name in names]
        return ", ".join(
            f"{self.show(value)} ({self.show(low)} to {self.show(high)})"
            for value, low, high in zip(*columns, strict=True)
        )

    def gain_over(self, base: str) -> Cell:
        """Show the mean difference from run `base`, seed by seed, with Student's 95% interval."""

        kept = Metric(f"{self.name}, gain over {base}", scale=self.scale).kept

        def cell(runs: Runs, run: str) -> str:
            if run == base:
                return ""
            pairs = zip(self.values(runs, run), self.values(runs, base), strict=True)
            differences = [a - b for a, b in pairs]
            low, high = mean_interval(differences)
            mean = kept(runs, run, "mean", statistics.mean(differences))
            ends = kept(runs, run, "low", low), kept(runs, run, "high", high)
            return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(value or 0.0 for value in (mean, *ends)))

        return cell

    def range(self, runs: Runs, run: str) -> str:
        """Show the minimum and the maximum: `594 to 654`; a single value: `594`."""
        values = self.values(runs, run)
        low = self.kept(runs, run, "min", min(values, default=None))
        high = self.kept(runs, run, "max", max(values, default=None))
        if low is None or low == high:
            return self.show(low)
        return f"{self.show(low)} to {self.show(high)}"

    def median_range(self, runs: Runs, run: str) -> str:
        """Show the median, the minimum and the maximum: `2.84 (2.78 to 3.08)`, or one value."""
        values = self.values(runs, run)
        median = self.kept(runs, run, "median", statistics.median(values) if values else None)
        spread, middle = self.range(runs, run), self.show(median)
        return middle if spread == middle else f"{middle} ({spread})"


def sentence_mean(runs: Runs, run: str) -> str:
    """Show the accuracy over all sentences and seeds."""
    return f"{statistics.mean(_sentences(runs, run)):.3f}"


def sentence_interval(runs: Runs, run: str) -> str:
    """Show Student's 95% interval over the sentences; each is averaged over the seeds."""
    low, high = mean_interval(_sentences(runs, run))
    return f"{max(0, low):.3f} to {min(1, high):.3f}"


def sentence_std(runs: Runs, run: str) -> str:
    """Show the standard deviation of the accuracy over seeds."""
    by_seed = [Metric(f"acc/sentence_{i}").values(runs, run) for i in range(_count(runs, run))]
    if by_seed[0]:
        return f"{statistics.stdev(map(statistics.mean, zip(*by_seed, strict=True))):.3f}"
    return Metric("acc", 3).show(Metric("acc").kept(runs, run, "std", None))


def each_sentence(runs: Runs, run: str) -> str:
    """Show the accuracy of each sentence, over seeds: `.95 .65 1.00`."""
    return " ".join(f"{share:.2f}".removeprefix("0") for share in _sentences(runs, run))


def _count(runs: Runs, run: str) -> int:
    return sum(metric.startswith("acc/sentence_") for metric in runs[run])


def _sentences(runs: Runs, run: str) -> list[float]:
    names = [Metric(f"acc/sentence_{i}", 6) for i in range(_count(runs, run))]
    return [float(metric.mean(runs, run)) for metric in names]


Columns = Sequence[tuple[str, Cell]]


def table(name: str, columns: Columns) -> str:
    """Return results/NAME.csv as a table: a row for each run, in the order of the file."""
    runs = read(name)
    rows = [[cell(runs, run) for _, cell in columns] for run in runs]
    return markdown([title for title, _ in columns], rows)


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(text: str) -> str:
    """Return the text of a page with up-to-date tables.

    Raises:
        KeyError: the page asks for a table that TABLES does not have.
    """
    from results.layout import TABLES

    return MARKED.sub(lambda m: m[1] + TABLES[m[2]]() + m[3], text)


def pages() -> list[Path]:
    """Return the pages that may hold tables."""
    return [ROOT / "README.md", ROOT / "RESULTS.md", *sorted((ROOT / "docs/results").glob("*.md"))]


def main() -> int:
    """Rewrite the pages, or check them; return the exit code."""
    stale = [page for page in pages() if filled(page.read_text()) != page.read_text()]
    if "--check" in sys.argv[1:]:
        for page in stale:
            print(
                f"{page.relative_to(ROOT)} is out of date: python -m results.tables",
                file=sys.stderr,
            )
        return int(bool(stale))
    for page in stale:
        page.write_text(filled(page.read_text()))
        print(f"wrote {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
