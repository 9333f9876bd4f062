"""Sweeps that share a study, or continue one, see its trials. No run is trained."""

import pytest

from src.core.errors import UserError
from src.sweep.plan import Plan
from tests.sweep.test_search import LR, SETTINGS, drive, plan, pretend


def test_two_sweeps_that_ask_for_the_last_trial_at_once_run_it_once(tmp_path):
    one = plan("hydra.sweeper.n_trials=1", f"hydra.sweeper.storage=sqlite:///{tmp_path}/study.db",
               "hydra.sweeper.study_name=both")  # fmt: skip
    first, second = one.strategy(tmp_path / "a"), one.strategy(tmp_path / "b")
    (job,) = first.next_jobs()
    assert second._ask(None) is None, "the other one has got it since this one has counted"
    assert second.next_jobs() == []
    assert [each.name for each in second.jobs()] == []
    pretend(job, "finished", 0.5)
    assert [each.name for each in second.jobs()] == [job.name]


def test_a_sweep_killed_while_it_asks_a_shared_study_does_not_lose_the_trial(tmp_path, monkeypatch):
    one = plan("hydra.sweeper.n_trials=1", f"hydra.sweeper.storage=sqlite:///{tmp_path}/study.db")
    first = one.strategy(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr("src.sweep.search.suggest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            first.next_jobs()
    assert len(one.strategy(tmp_path / "a").next_jobs()) == 1


def interrupt(*args):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("space", "words"),
    [("model/optimizer=adam,sgd,adamw", "dynamic value space"), ("seed=1,2", "it has")],
)
def test_a_study_with_another_search_space_is_refused(tmp_path, space, words):
    drive(plan().strategy(tmp_path), tmp_path, plan().wanted, [1.0])
    other = Plan("train", ["model=fc", LR, space, *SETTINGS[3:]])
    with pytest.raises(UserError, match=f"has another search space .*{words}"):
        other.strategy(tmp_path)
