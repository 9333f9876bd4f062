"""A search with Optuna: what is asked for, told, and continued after a kill. No run is trained."""

import json
import sys
from datetime import datetime
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.config.cli import RunFolder
from src.config.objective import Objective
from src.core import run_record
from src.core.errors import UserError
from src.core.study import NAME, repair
from src.sweep.job import Job, JobRunner, outcome
from src.sweep.plan import Plan, resumed_overrides
from src.sweep.progress import Progress
from src.sweep.report import report
from src.sweep.results import points_of, rows_of, table, write_csv
from src.sweep.sweeper import run_sweep

LR = "model.optimizer.lr=tag(log, interval(1e-5, 1e-2))"
SETTINGS = ["model=fc", LR, "model/optimizer=adam,sgd", "hydra/sweeper=optuna",
            "hydra.sweeper.n_trials=4"]  # fmt: skip

SAMPLER = "hydra.sweeper.sampler._target_=optuna.samplers"


def plan(*more: str) -> Plan:
    return Plan("train", [*SETTINGS, *more])


def pretend(job, state: str, loss: float | None = None) -> None:
    """Write what a run of `job` would leave."""
    job.folder.mkdir(parents=True, exist_ok=True)
    session = {"state": state, "seconds": 1.0}
    (job.folder / run_record.NAME).write_text(json.dumps({"sessions": [session]}))
    if loss is not None:
        (job.folder / "metrics.json").write_text(json.dumps({"val/loss": loss}))


def drive(strategy, folder: Path, wanted, losses) -> list[str]:
    """Run jobs until the losses are used up; return the names of the jobs."""
    names = []
    for loss in losses:
        (job,) = strategy.next_jobs()
        names.append(job.name)
        pretend(job, "finished", loss)
        strategy.finish(job, outcome(job.folder, wanted))
    return names


def test_a_killed_search_continues_as_if_it_had_not_been_killed(tmp_path):
    one = plan()
    (tmp_path / "a").mkdir()
    whole = drive(one.strategy(tmp_path / "a"), tmp_path, one.wanted, [3.0, 2.0, 1.0, 4.0])
    (tmp_path / "b").mkdir()
    names = drive(one.strategy(tmp_path / "b"), tmp_path, one.wanted, [3.0, 2.0])
    again = one.strategy(tmp_path / "b")
    (cut,) = again.next_jobs()  # asked for, and killed while it runs
    pretend(cut, "running")
    with (tmp_path / "b" / NAME).open("a") as file:
        file.write('{"op_code":')  # killed while it wrote
    repair(tmp_path / "b")
    last = one.strategy(tmp_path / "b")
    names += drive(last, tmp_path, one.wanted, [1.0, 4.0])
    assert names == whole, "no trial twice, the cut one again, and the same values"
    assert cut.name == whole[2]
    assert last.next_jobs() == []


def test_a_trial_that_finished_but_was_not_told_is_not_run_again(tmp_path):
    one = plan("hydra.sweeper.n_trials=1")
    (job,) = one.strategy(tmp_path).next_jobs()
    pretend(job, "finished", 0.5)
    again = one.strategy(tmp_path)
    assert again.next_jobs() == []
    assert again.study.best_value == 0.5


def test_a_trial_is_the_mean_over_its_seeds(tmp_path):
    one = plan("hydra.sweeper.n_seeds=2", "hydra.sweeper.n_trials=1", "seed=5")
    strategy = one.strategy(tmp_path)
    names = drive(strategy, tmp_path, one.wanted, [1.0, 2.0])
    assert [name.rpartition(",")[2] for name in names] == ["seed=5", "seed=6"]
    assert strategy.study.best_value == 1.5
    points = points_of(rows_of(strategy.jobs(), one.wanted), one.wanted)
    assert len(points) == 1
    assert "1.5 ± 6.4" in table(points, one.wanted)


def test_a_search_continues_with_another_number_of_seeds(tmp_path):
    one = plan("hydra.sweeper.n_trials=1")
    drive(one.strategy(tmp_path), tmp_path, one.wanted, [1.0])
    (cut,) = plan("hydra.sweeper.n_trials=2").strategy(tmp_path).next_jobs()
    two = plan("hydra.sweeper.n_trials=3", "hydra.sweeper.n_seeds=2")
    strategy = two.strategy(tmp_path)
    assert strategy.total == 4, "the trials that have started keep one seed"
    names = drive(strategy, tmp_path, two.wanted, [2.0, 3.0, 4.0])
    assert names[0] == cut.name
    assert [name.rpartition(",")[2] for name in names[1:]] == ["seed=0", "seed=1"]
    assert [trial.value for trial in strategy.study.trials] == [1.0, 2.0, 3.5]


def test_only_the_first_seed_of_a_trial_can_be_pruned(tmp_path):
    one = plan("hydra.sweeper.n_seeds=2", "hydra.sweeper.n_trials=1")
    strategy = one.strategy(tmp_path)
    progress = Progress(tmp_path, strategy.total, one.wanted)
    runner = JobRunner("train", lambda *_: {}, one.wanted, True, progress, {"monitor": "val/loss"})
    (first,) = strategy.next_jobs()
    pretend(first, "finished", 0.5)
    strategy.finish(first, outcome(first.folder, one.wanted))
    (second,) = strategy.next_jobs()
    assert "pruning" in runner._with_callbacks(one.cfg, first).callbacks
    assert "pruning" not in runner._with_callbacks(one.cfg, second).callbacks


def test_a_point_that_is_drawn_again_is_one_measurement(tmp_path):
    values = [{"lr": "0.1", "seed": seed} for seed in "001"]
    jobs = [Job(tmp_path / str(n), [], one, n) for n, one in enumerate(values)]
    for job, loss in zip(jobs, (1.0, 1.0, 2.0), strict=True):
        pretend(job, "finished", loss)
    wanted = [Objective("val/loss", "min")]
    (point,) = points_of(rows_of(jobs, wanted), wanted)
    assert [row.job for row in point.rows] == [jobs[0], jobs[2]]
    assert str(point.estimates[0]) == "1.5 ± 6.4"
    pretend(jobs[0], "pruned")
    (point,) = points_of(rows_of(jobs, wanted), wanted)
    assert [row.job for row in point.rows] == jobs[1:], "the finished one counts"


def test_the_command_of_the_best_run_keeps_a_seed_that_was_not_swept(tmp_path, capsys):
    one = Plan("train", ["model=fc", "model.optimizer.lr=0.1,0.1", "seed=5"])
    jobs = one.strategy(tmp_path).jobs()
    for job in jobs:
        pretend(job, "finished", 0.5)
    report("train", jobs, one.wanted, True, tmp_path)
    best = next(line for line in capsys.readouterr().out.splitlines() if "best run" in line)
    assert "seed=5" in best


def test_failed_non_finite_and_pruned_trials_are_told(tmp_path):
    one = plan("hydra.sweeper.n_trials=3")
    strategy = one.strategy(tmp_path)
    for state, loss in (("failed", None), ("finished", None), ("pruned", 2.0)):
        (job,) = strategy.next_jobs()
        pretend(job, state, loss)
        if state == "finished":
            (job.folder / "metrics.json").write_text('{"val/loss": null}')
        strategy.finish(job, outcome(job.folder, one.wanted))
    states = [trial.state.name for trial in strategy.study.trials]
    assert states == ["FAIL", "FAIL", "PRUNED"]
    assert strategy.study.trials[1].user_attrs["error"] == "objective val/loss is not finite"
    rows = rows_of(strategy.jobs(), one.wanted)
    write_csv(rows, one.wanted, tmp_path / "sweep.csv")
    lines = (tmp_path / "sweep.csv").read_text().splitlines()
    assert lines[0].startswith("trial,folder,state,model.optimizer.lr,model/optimizer,val/loss")
    assert [line.count("failed") for line in lines[1:]] == [1, 1, 0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["hydra.sweeper.n_trial=3"], "did you mean hydra.sweeper.n_trials"),
        (["hydra.sweeper.n_trials=0"], "a whole number of at least 1"),
        (["hydra.sweeper.sampler.n_startup_trial=3"], "did you mean .*n_startup_trials"),
        (["hydra.sweeper.sampler._target_=os.system"], "a sampler of optuna.samplers"),
        (["hydra.sweeper.n_seeds=2", "seed=0,1"], "exclude each other"),
        (["model/optimizer=adam,sgdd"], "model/optimizer=sgdd: no such choice"),
        (["model.optimizer.lr=interval(-1,1)"], "model.optimizer.lr=-1.0: must be"),
        (["hydra/launcher=joblib", "hydra.launcher.n_job=2"], "did you mean hydra.launcher.n_jobs"),
        (["hydra.launcher.n_jobs=2"], "it needs hydra/launcher=..."),
        (["objective.metric=[val/loss,val/x]"], "objective.mode must be given"),
        (["objective.metric=val/fid_own", "callbacks=none"], "needs callbacks.quality"),
        (["data.val_size=0"], "needs validation"),
    ],
)
def test_a_mistake_gets_one_line(settings, words):
    with pytest.raises(UserError, match=words):
        plan(*settings)


def test_an_interval_needs_a_search():
    with pytest.raises(UserError, match="add hydra/sweeper=optuna"):
        Plan("train", ["model=fc", LR])


def test_a_plugin_that_is_not_installed_leaves_no_folder(tmp_path, monkeypatch):
    from hydra.core.config_store import ConfigStore

    from src.config import compose

    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "joblib.yaml")
    compose._composed_once.cache_clear()
    with pytest.raises(UserError, match=r"needs hydra-joblib-launcher.*pip install '.\[joblib\]'"):
        run_sweep("train", lambda cfg, folder: {}, [
            "model=fc", "seed=0,1", "hydra/launcher=joblib", f"out={tmp_path / 'runs'}",
        ], RunFolder())  # fmt: skip
    assert not (tmp_path / "runs").exists()


def test_a_grid_continues_with_its_settings_in_another_order(tmp_path):
    settings = ["model=fc", "seed=0,1", "model.optimizer.lr=0.1,0.2"]
    OmegaConf.save({"hydra": {"overrides": {"task": settings, "hydra": []}}},
                   tmp_path / "multirun.yaml")  # fmt: skip
    names = [job.name for job in Plan("train", settings).strategy(tmp_path).jobs()]
    again = Plan("train", [*settings[::-1], f"hydra.sweep.dir={tmp_path}"])
    with again.open_folder(RunFolder()) as folder:
        assert [job.name for job in again.strategy(folder).jobs()] == names


def test_a_job_that_runs_again_is_not_counted_as_done(tmp_path):
    one = Plan("train", ["model=fc", "seed=0,1"])
    good, bad = one.strategy(tmp_path).jobs()
    pretend(good, "finished", 0.5)
    pretend(bad, "failed")
    waiting = one.strategy(tmp_path).waiting
    assert waiting == [bad]
    progress = Progress(tmp_path, 2, one.wanted, [bad.name])
    assert progress.start(bad.folder, bad.values, is_resumed=False) == "job 2 of 2: seed=1"
    record = {"sessions": [{"state": "failed", "started": datetime.now().astimezone().isoformat()}]}
    (bad.folder / run_record.NAME).write_text(json.dumps(record))
    assert progress.count() == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["NSGAIISampler", "hydra.sweeper.sampler.population_size=1"], "population_size"),
        (["GridSampler"], "search_space"),
    ],
)
def test_a_sampler_that_cannot_be_built_is_one_line(tmp_path, settings, words):
    with pytest.raises(UserError, match=rf"^hydra.sweeper: .*{words}"):
        plan(f"{SAMPLER}.{settings[0]}", *settings[1:]).strategy(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_sampler_whose_package_is_missing_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    one = Plan("train", ["model=fc", LR, *SETTINGS[3:], f"{SAMPLER}.CmaEsSampler"])
    with pytest.raises(UserError, match=r"^hydra.sweeper.sampler: .*cmaes"):
        drive(one.strategy(tmp_path), tmp_path, one.wanted, [1.0, 2.0])


def test_a_search_ends_when_all_points_are_visited(tmp_path):
    choices = "model/optimizer=adam,sgd"
    one = Plan("train", ["model=fc", choices, *SETTINGS[3:], f"{SAMPLER}.BruteForceSampler"])
    strategy = one.strategy(tmp_path)
    drive(strategy, tmp_path, one.wanted, [1.0, 2.0])
    assert strategy.next_jobs() == []
    assert one.strategy(tmp_path).next_jobs() == []
    assert [trial.value for trial in strategy.study.trials] == [1.0, 2.0]


def test_a_resumed_sweep_keeps_its_settings(tmp_path):
    (tmp_path / "multirun.yaml").write_text(
        "hydra: {overrides: {task: [model=fc, 'seed=0,1'], hydra: [hydra/sweeper=optuna,"
        " hydra.sweeper.n_trials=4, 'hydra.sweep.dir=x', hydra.mode=MULTIRUN]}}"
    )
    assert resumed_overrides(tmp_path, ["hydra.sweeper.n_trials=9"]) == [
        "model=fc",
        "seed=0,1",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=9",
    ]
    with pytest.raises(UserError, match="'model=cnn' cannot change"):
        resumed_overrides(tmp_path, ["model=cnn"])
