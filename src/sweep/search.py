"""A search with Optuna, which proposes trials; they run as jobs, and it is told the results.

All that must survive is in the study's storage and in the folders of the jobs. A trial that was cut
is still `RUNNING` in the storage: its jobs continue from their checkpoints. The random numbers of
the sampler are a function of (seed, trial), so a search that was killed and continued asks for the
same trials as one that was not.
"""

from __future__ import annotations

import hashlib
import inspect
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.config.objective import Objective
from src.core import run_record
from src.core.errors import UserError, first_line
from src.core.study import open_storage
from src.core.types import PositiveInt, Seed
from src.sweep.job import Job, Outcome, outcome
from src.sweep.names import folder_name
from src.sweep.space import Space, distribution, suggest

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

TRIES = 5  # to open a database
EXHAUSTED = "exhausted"  # attribute of a study whose sampler has no more points
OWNER = "owner"  # attribute of a trial: the sweep that asks for its values
SURPLUS = "surplus"  # attribute of a trial that was asked for in vain, and never ran


class Search:
    """The trials of a study of Optuna, as jobs of a sweep.

    Args:
        n_trials: number of trials of the study, including those of earlier sessions.
        n_seeds: a trial is the mean of this many runs, with seed, seed + 1, ... They run one after
            another; only the first can be pruned.
        n_jobs: number of jobs that the launcher gets at a time; each such batch is told when all
            of it has ended. None: as many as the launcher runs side by side.
        seed: seed of the sampler, unless that is given its own.
        sampler: builds the sampler.
        pruner: builds the pruner; None: no trial ends early.
        storage: URL of the study's database; None: study.log in the folder of the sweep.
        study_name: its name in the storage; None: that of the folder of the sweep.
        space: the swept keys.
        folder: the sweep.
        wanted: the objectives.
        first_seed: the setting `seed`.
        pruner_node: the node of `pruner` in the config.
    """

    def __init__(
        self,
        n_trials: PositiveInt,
        n_seeds: PositiveInt,
        n_jobs: PositiveInt | None,
        seed: Seed,
        sampler: Callable[..., BaseSampler],
        pruner: Callable[..., BasePruner] | None,
        storage: str | None,
        study_name: str | None,
        *,
        space: Space,
        folder: Path,
        wanted: list[Objective],
        first_seed: int,
        pruner_node: dict[str, Any] | None,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self.n_trials, self.n_seeds, self.n_jobs, self.seed = n_trials, n_seeds, n_jobs or 1, seed
        self.is_shared = storage is not None
        self.space, self.folder, self.wanted = space, folder.absolute(), wanted
        self.first_seed, self.sampler = first_seed, sampler
        self.distributions = {key: distribution(o) for key, o in space.swept.items()}
        self._sampler(0)  # raises if it cannot be built
        name = study_name or self.folder.name
        directions: list[Any] = [f"{mode}imize" for _, mode in wanted]
        self.storage = _opened(storage, self.folder)
        self.study = optuna.create_study(
            storage=self.storage, study_name=name, directions=directions, load_if_exists=True,
            pruner=pruner() if pruner else optuna.pruners.NopPruner(),
        )  # fmt: skip
        if [d.name.lower() for d in self.study.directions] != directions:
            raise UserError(f"study {name} in {storage} has other objectives")
        self._expect_same_space(name)
        self.study.set_metric_names([metric for metric, _ in wanted])
        # a sampler whose points are finite, such as BruteForceSampler, calls this after the last
        study: Any = self.study
        study.stop = lambda: study.set_user_attr(EXHAUSTED, True)
        trials = self.study.get_trials(deepcopy=False)
        asked = [len(t.user_attrs["folders"]) for t in trials if "sweep" in t.user_attrs]
        self.total = sum(asked) + max(0, n_trials - len(asked)) * n_seeds
        self.pruning = None
        if pruner is not None and len(wanted) == 1:
            self.pruning = {
                "_target_": "src.callbacks.pruning.Pruning",
                "storage": storage,
                "sweep": str(self.folder),
                "study_name": name,
                "monitor": wanted[0].metric,
                "pruner": pruner_node,
            }
        self.taken: set[str] = set()
        self.waiting: list[Job] = []
        for job in self._cut_trials():
            result = outcome(job.folder, wanted)
            if result.state in (run_record.FINISHED, run_record.PRUNED, run_record.FAILED):
                self.finish(job, result)  # it had ended when the sweep was killed
            else:
                self.waiting.append(job)

    def _expect_same_space(self, study_name: str) -> None:
        """Raise UserError if earlier trials of the study had other keys or kinds of values."""
        from optuna.distributions import check_distribution_compatibility

        own = {key.lstrip("+"): dist for key, dist in self.distributions.items()}
        for trial in self.study.get_trials(deepcopy=False):
            if "sweep" not in trial.user_attrs:
                continue  # it has no values, or not yet all
            earlier = {key.lstrip("+"): dist for key, dist in trial.distributions.items()}
            try:
                if earlier.keys() != own.keys():
                    raise ValueError(f"it has {', '.join(earlier)}")
                for key, dist in own.items():
                    check_distribution_compatibility(earlier[key], dist)
            except ValueError as error:
                raise UserError(
                    f"study {study_name} has another search space ({first_line(error)}): choose "
                    "another hydra.sweeper.study_name"
                ) from error

    def next_jobs(self) -> list[Job]:
        """Return the jobs to launch now; none if the study has all its trials or points."""
        jobs, self.waiting = self.waiting[: self.n_jobs], self.waiting[self.n_jobs :]
        is_over = EXHAUSTED in self.study.user_attrs
        while not is_over and len(jobs) < self.n_jobs and self._count() < self.n_trials:
            if job := self._ask(None):
                jobs.append(job)
        return jobs

    def finish(self, job: Job, result: Outcome) -> None:
        """Tell the study what came of a job, or run the trial's next seed."""
        from optuna.trial import TrialState

        trial_id = job.trial_id
        assert trial_id is not None
        if result.state == run_record.PRUNED:
            self.study.tell(job.trial, state=TrialState.PRUNED)
        elif result.state != run_record.FINISHED or result.values is None:
            self.storage.set_trial_user_attr(trial_id, "error", result.error or result.state)
            self.study.tell(job.trial, state=TrialState.FAIL)
        else:
            seeds = self._seed_values(trial_id)
            if len(seeds) < self._n_seeds(trial_id):
                self.waiting.insert(0, self._job(trial_id, len(seeds)))
                return
            means = [sum(column) / len(column) for column in zip(*seeds, strict=True)]
            self.study.tell(job.trial, means)

    def jobs(self) -> list[Job]:
        """Return the jobs of all trials of the study that have started."""
        found = []
        for trial in self.study.get_trials(deepcopy=False):
            seeds = range(len(trial.user_attrs["folders"]) if "sweep" in trial.user_attrs else 0)
            jobs = [self._job(trial._trial_id, seed) for seed in seeds]
            found += [job for job in jobs if job.folder.is_dir()]
        return found

    def _seed_values(self, trial_id: int) -> list[list[float]]:
        """Return the objectives of the finished jobs of a trial, by seed."""
        found = []
        for number in range(self._n_seeds(trial_id)):
            folder = self._job(trial_id, number).folder
            result = outcome(folder, self.wanted) if folder.is_dir() else None
            if result is None or result.values is None:
                break
            found.append(result.values)
        return found

    def _n_seeds(self, trial_id: int) -> int:
        """Return the number of runs of a trial; an earlier session may have had another setting."""
        return len(self.storage.get_trial(trial_id).user_attrs["folders"])

    def _count(self, before: int | None = None) -> int:
        """Return the number of trials, or of those with a number below `before`."""
        numbers = [
            trial.number
            for trial in self.study.get_trials(deepcopy=False)
            if SURPLUS not in trial.user_attrs
        ]
        return sum(before is None or number < before for number in numbers)

    def _cut_trials(self) -> list[Job]:
        """Return the jobs of trials that an earlier session of this sweep has not told."""
        from optuna.trial import TrialState

        jobs = []
        for trial in self.study.get_trials(deepcopy=False):
            is_ours = "sweep" in trial.user_attrs and self._home(trial) == self.folder
            if is_ours:
                self.taken.update(trial.user_attrs["folders"])
            if trial.state != TrialState.RUNNING:
                continue
            if is_ours:
                trial_id = trial._trial_id
                done, n = len(self._seed_values(trial_id)), self._n_seeds(trial_id)
                jobs.append(self._job(trial_id, min(done, n - 1)))
            elif not self.is_shared or trial.user_attrs.get(OWNER) == str(self.folder):
                # killed while it was asked for
                jobs += [job for job in [self._ask(trial)] if job]
        return jobs

    def _ask(self, cut: FrozenTrial | None) -> Job | None:
        """Return the first job of a new trial, or of one that has not got all its values yet.

        None: another sweep has started the last trial of the study at the same time.
        """
        import optuna

        self.study.sampler = self._sampler(self._count() if cut is None else cut.number)
        trial = self.study.ask() if cut is None else optuna.Trial(self.study, cut._trial_id)
        if self.is_shared and self._count(before=trial.number) >= self.n_trials:
            trial.set_user_attr(SURPLUS, True)
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return None
        if cut is None:
            trial.set_user_attr(OWNER, str(self.folder))
        try:
            values = {key: suggest(trial, key, dist) for key, dist in self.distributions.items()}
        except ImportError as error:  # some samplers need another package for their later trials
            raise UserError(f"hydra.sweeper.sampler: {first_line(error)}") from error
        seeds: list[dict[str, str]] = [{}]
        if self.n_seeds > 1:
            seeds = [{"seed": str(self.first_seed + i)} for i in range(self.n_seeds)]
        folders = [folder_name({**values, **own}, self.taken) for own in seeds]
        jobs = [{**values, **own} for own in seeds]
        trial.set_user_attr("folders", folders)
        trial.set_user_attr("values", jobs)
        trial.set_user_attr("sweep", str(self.folder))  # the last: the trial has all it needs
        return self._job(trial._trial_id, 0)

    def _job(self, trial_id: int, seed: int) -> Job:
        trial = self.storage.get_trial(trial_id)
        values = trial.user_attrs["values"][seed]
        folder = self._home(trial) / trial.user_attrs["folders"][seed]
        overrides = self.space.job(values)
        return Job(folder, overrides, values, trial.number, trial_id, is_prunable=seed == 0)

    def _home(self, trial: FrozenTrial) -> Path:
        """Return the folder of the sweep that runs a trial; other sweeps may share a database."""
        return Path(trial.user_attrs["sweep"]) if self.is_shared else self.folder

    def _sampler(self, number: int) -> BaseSampler:
        """Build the sampler for one trial, with a seed of its own."""
        assert isinstance(self.sampler, partial)
        has_seed = "seed" in inspect.signature(self.sampler.func).parameters
        if not has_seed or "seed" in self.sampler.keywords:
            return self.sampler()
        digest = hashlib.sha256(f"{self.seed} {number}".encode()).digest()
        return self.sampler(seed=int.from_bytes(digest[:4], "little"))


def _opened(url: str | None, folder: Path) -> Any:
    """Return the storage of a study. Raises UserError if the database cannot be used."""
    for attempt in range(TRIES):
        try:
            return open_storage(url, folder)
        except Exception as error:  # a database's driver can raise any exception type
            # two commands that start together both create the tables, and one of them fails
            if attempt + 1 == TRIES or "duplicate key" not in str(error):
                raise UserError(f"hydra.sweeper.storage={url}: {first_line(error)}") from error
            time.sleep(1)
    return None
