"""Read and check the command line of a sweep, before anything starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config.cli import RunFolder, check_job, with_new_keys
from src.config.compose import compose, new_keys
from src.config.kinds import SWEEPER
from src.config.objective import Objective, candidates, objectives
from src.config.overrides import setting
from src.config.targets import UnknownSetting, check_node
from src.core import packages, run_search, runs
from src.core.errors import UserError, first_line
from src.sweep.grid import Grid
from src.sweep.space import Space

FOLDER = "hydra.sweep.dir"
GIVEN_BY_HYDRA = ("hydra.mode=", f"{FOLDER}=")


class Plan:
    """A sweep: its settings, its jobs and its folder.

    Args:
        config_name: conf/`config_name`.yaml.
        overrides: those of the command line.

    Raises UserError if anything is wrong with any of its jobs.

    Attributes:
        own: the overrides of jobs; swept ones have several values.
        hydras: those of Hydra: its sweeper, its launcher and the folder.
        wanted: the objectives.
        strict: whether every finished job must have them; a grid need not.
        candidates: the objectives, or what a grid may be compared by without them.
    """

    def __init__(self, config_name: str, overrides: list[str]) -> None:
        self.config_name = config_name
        self.own = [o for o in overrides if not _is_hydras(o)]
        self.hydras = [o for o in overrides if _is_hydras(o)]
        self.space = Space(self.own)
        first = self.space.job(next(self.space.probes()))
        self.hydra_cfg = self._hydra_cfg(first)
        self.is_search = "n_trials" in self.hydra_cfg.sweeper
        self._check_sweeper()
        values = self.space.probes() if self.is_search else self.space.grid()
        cfgs = [check_job(config_name, self.space.job(value)) for value in values]
        self.cfg = cfgs[0]
        plain = OmegaConf.to_container(self.cfg, resolve=True)
        assert isinstance(plain, dict)
        settings = {str(k): v for k, v in plain.items()}
        self.wanted: list[Objective] = objectives(settings)
        self.strict = self.is_search or self.cfg.objective.metric is not None
        self.candidates = self.wanted if self.strict else candidates(settings)
        if self.is_search:
            self._expect_measured()
        devices = self.cfg.trainer.devices
        if (
            self.is_search
            and devices != 1
            and not (OmegaConf.is_list(devices) and len(devices) == 1)
        ):
            raise UserError(
                f"hydra/sweeper=optuna trains a trial in one process: trainer.devices={devices} "
                "must be 1"
            )
        self.own = with_new_keys(self.own, new_keys(config_name, first))
        self.space = Space(self.own)

    def _expect_measured(self) -> None:
        """Raise UserError if the jobs of a search will not measure the objective."""
        targets = [str(node._target_) for node in (self.cfg.callbacks or {}).values()]
        for metric, _ in self.wanted:
            if metric.startswith("val/") and self.cfg.data.get("val_size") == 0:
                raise UserError(f"objective.metric={metric} needs validation: data.val_size=0.1")
            quality = "src.callbacks.quality.SampleQuality"
            if metric.endswith("/fid_own") and quality not in targets:
                raise UserError(
                    f"objective.metric={metric} needs callbacks.quality: use callbacks=default, "
                    "or name another metric"
                )

    def _hydra_cfg(self, first: list[str]) -> DictConfig:
        overrides = [o for o in self.hydras if not o.startswith(GIVEN_BY_HYDRA)]
        cfg: DictConfig = compose(self.config_name, [*first, *overrides], with_hydra=True).hydra
        return cfg

    def _check_sweeper(self) -> None:
        node = OmegaConf.to_container(self.hydra_cfg.sweeper, resolve=True)
        assert isinstance(node, dict)
        if not self.is_search:
            if not str(node.get("_target_")).endswith(".BasicSweeper"):
                raise UserError(f"hydra.sweeper._target_={node.get('_target_')} is not supported")
            if self.space.intervals:
                raise UserError(
                    f"{self.space.intervals[0]} has no list of values: add hydra/sweeper=optuna"
                )
            return
        packages.require("hydra/sweeper=optuna", "optuna")
        try:
            check_node("hydra.sweeper", node, SWEEPER)
        except UnknownSetting as error:
            hint = error.suggestion({"hydra": {"sweeper": node}})
            raise UserError(f"{error}{hint}") from error
        if not self.space.swept:
            raise UserError(
                "hydra/sweeper=optuna needs a setting to search, such as "
                "'model.optimizer.lr=tag(log, interval(1e-5, 1e-2))'"
            )
        if node["n_seeds"] > 1 and "seed" in self.space.swept:
            raise UserError("hydra.sweeper.n_seeds and a swept seed exclude each other")

    @contextmanager
    def open_folder(self, run_folder: RunFolder) -> Iterator[Path]:
        """Lock the folder of the sweep: a new one, or the one that `run_folder` names."""
        wanted = run_folder.folder or self._wanted(run_folder)
        if run_folder.folder is None:
            with run_folder.reserved(wanted, FOLDER) as folder:
                yield folder
        else:
            with runs.locked(wanted):
                yield wanted

    def _wanted(self, run_folder: RunFolder) -> Path:
        """Return the folder of the sweep. `run_folder` names it if it holds this sweep already."""
        named = [o for o in self.hydras if o.startswith(f"{FOLDER}=")]
        overrides = [*self.space.job(next(self.space.probes())), *self.hydras]
        wanted = run_folder.wanted(self.config_name, overrides, FOLDER)
        if named and run_search.is_sweep(wanted):
            if differ := self._differences(wanted):
                raise UserError(
                    f"{wanted} holds a sweep with other settings ({', '.join(differ)}): "
                    f"continue that one with resume={wanted}, or choose another folder"
                )
            return self._continued(wanted, run_folder)
        for run in run_search.requeued_runs(Path(self.cfg.out)) if not named else ():
            if run_search.is_sweep(run.parent) and not self._differences(run.parent):
                return self._continued(run.parent, run_folder)
        return wanted

    def _continued(self, folder: Path, run_folder: RunFolder) -> Path:
        """Let `run_folder` name the sweep in `folder`, whose jobs are named in its own order."""
        order = [o.lstrip("+") for o in saved_overrides(folder)]
        self.own.sort(key=lambda o: order.index(o.lstrip("+")))
        self.space = Space(self.own)
        run_folder.folder = folder
        return folder

    def _differences(self, folder: Path) -> list[str]:
        """Return the settings that only this sweep has, or only the one in `folder`."""
        before = saved_overrides(folder)
        return sorted(
            {o.lstrip("+") for o in self.own} ^ {o.lstrip("+") for o in before if not _is_hydras(o)}
        )

    def all_overrides(self, folder: Path) -> list[str]:
        """Return the overrides of the sweep in `folder`, as Hydra needs them."""
        rest = [o for o in self.hydras if not o.startswith(GIVEN_BY_HYDRA)]
        rest = with_new_keys(rest, new_keys(self.config_name, rest))
        return [*self.own, *rest, setting(FOLDER, folder)]

    def strategy(self, folder: Path) -> Any:
        """Return the object that decides which jobs run next, a `Grid` or a `Search`."""
        if not self.is_search:
            launcher = str(self.hydra_cfg.launcher._target_)
            return Grid(self.space, folder, at_once=not launcher.endswith(".BasicLauncher"))
        node = OmegaConf.to_container(self.hydra_cfg.sweeper, resolve=True)
        assert isinstance(node, dict)
        try:
            build = instantiate(self.hydra_cfg.sweeper, _partial_=True)
            return build(
                n_jobs=node["n_jobs"] or self._jobs_of_launcher(),
                space=self.space, folder=folder, wanted=self.wanted,
                first_seed=self.cfg.seed, pruner_node=node["pruner"],
            )  # fmt: skip
        except UserError:
            raise
        except Exception as error:  # Optuna's classes check their own parameters
            cause = error.__cause__ if isinstance(error.__cause__, UserError) else error
            raise UserError(f"hydra.sweeper: {first_line(cause)}") from error

    def _jobs_of_launcher(self) -> int:
        """Return how many jobs the launcher runs side by side, as far as its config says."""
        n = self.hydra_cfg.launcher.get("n_jobs", 1)
        return n if n > 0 else os.cpu_count() or 1


def saved_overrides(folder: Path) -> list[str]:
    """Return the overrides of the sweep in `folder`, without those that Hydra adds."""
    path = folder / run_search.MULTIRUN
    try:
        saved: Any = OmegaConf.load(path).hydra.overrides
        found = [*saved.task, *saved.hydra]
    except Exception as error:  # YAML, OmegaConf and the disk can raise any exception type
        raise UserError(f"{path} is damaged ({first_line(error)}): {runs.PUT_BACK}") from error
    return [str(o) for o in found if not str(o).startswith(GIVEN_BY_HYDRA)]


def resumed_overrides(folder: Path, changes: list[str]) -> list[str]:
    """Return the overrides of the sweep in `folder`, with `changes` of Hydra's settings.

    Raises UserError for a change of another setting, which would make it another sweep.
    """
    if not runs.is_first_process():  # Lightning gives the other ranks of a job more settings
        changes = [o for o in changes if not o.startswith(GIVEN_BY_HYDRA)]
    for override in changes:
        if not _is_hydras(override) or override.startswith((*GIVEN_BY_HYDRA, "hydra/sweeper")):
            raise UserError(
                f"resume: '{override}' cannot change: a resumed sweep keeps its settings; "
                "you may change hydra.sweeper.n_trials and other settings of hydra"
            )
    keys = {o.lstrip("+").partition("=")[0] for o in changes}
    before = [o.lstrip("+") for o in saved_overrides(folder)]
    return [*(o for o in before if o.partition("=")[0] not in keys), *changes]


def _is_hydras(override: str) -> bool:
    return override.lstrip("+~").startswith(("hydra.", "hydra/"))
