"""The parts of a sweep: names of folders, spaces, objectives, recipes."""

import math
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.config.compose import compose
from src.config.hydra_app import launcher
from src.config.objective import objective_values, objectives
from src.config.recipe import with_recipe
from src.core.errors import UserError
from src.runs.seeds import estimate
from src.sweep.job import Job, Outcome
from src.sweep.names import MAX_BYTES, folder_name, short_keys
from src.sweep.plan import Plan
from src.sweep.plots import study_of
from src.sweep.recipe import write_recipe
from src.sweep.results import Point, Row
from src.sweep.space import Space, distribution


def test_a_folder_is_named_by_what_differs():
    values = {"model.optimizer.lr": "0.0012345678", "model/loss": "lsgan"}
    assert folder_name(values, set()) == "lr=0.001235,loss=lsgan"
    assert folder_name({"data.root": "'a b/c'"}, set()) == "root=a_b_c"
    assert short_keys(["model.a.lr", "model.b.lr", "seed"]) == {
        "model.a.lr": "a.lr",
        "model.b.lr": "b.lr",
        "seed": "seed",
    }


def test_folder_names_are_unique_and_short():
    taken = set()
    names = [folder_name({"lr": "0.10000001"}, taken), folder_name({"lr": "0.10000002"}, taken)]
    assert names == ["lr=0.1", "lr=0.1-2"]
    long = [folder_name({"note": "ü" * 300 + end}, taken) for end in "ab"]
    assert len(set(long)) == 2
    assert all(len(name.encode()) <= MAX_BYTES for name in long)


def test_a_grid_has_every_combination_and_keeps_other_overrides():
    space = Space(["model=fc", "seed=0,1", "model.optimizer.lr=choice(0.1,0.2)"])
    jobs = [space.job(values) for values in space.grid()]
    assert jobs[1] == ["model=fc", "seed=0", "model.optimizer.lr=0.2"]
    assert len(jobs) == 4
    assert space.job({"seed": "7", "model.optimizer.lr": "1", "name": "x"})[1:] == [
        "seed=7",
        "model.optimizer.lr=1",
        "name=x",
    ]


@pytest.mark.parametrize(
    ("given", "seeds"),
    [(["seed=0,1", "seed=5"], ["5"]), (["seed=5", "seed=0,1"], ["0", "1"]),
     (["seed=0,1", "seed=2,3"], ["2", "3"])],
)  # fmt: skip
def test_the_last_value_of_a_key_counts(given, seeds):
    space = Space(["model=fc", *given])
    jobs = [space.job(values) for values in space.grid()]
    assert jobs == [["model=fc", f"seed={seed}"] for seed in seeds]


def test_a_sweep_may_set_a_parameter_for_which_conf_has_no_value(tmp_path):
    new = ["model.optimizer.dampening=0.1", "model.optimizer.maximize=false,true"]
    plan = Plan("train", ["model=fc", "model/optimizer=sgd", *new])
    with launcher("train", plan.all_overrides(tmp_path), print) as (cfg, _):
        assert cfg.model.optimizer.dampening == 0.1
    assert plan.strategy(tmp_path).jobs()[1].overrides[2:] == [
        "++model.optimizer.dampening=0.1", "++model.optimizer.maximize=True",
    ]  # fmt: skip


def test_hydras_grammar_becomes_distributions_of_optuna():
    space = Space([
        "a=tag(log, interval(1e-5, 1e-2))", "b=int(interval(1,8))", "c=range(2,9,3)", "d=x,y",
        "e=interval(0,1)",
    ])  # fmt: skip
    kinds = {key: distribution(override) for key, override in space.swept.items()}
    assert (kinds["a"].low, kinds["a"].high, kinds["a"].log) == (1e-5, 1e-2, True)
    assert (type(kinds["b"]).__name__, kinds["b"].low, kinds["b"].high) == ("IntDistribution", 1, 8)
    assert (kinds["c"].low, kinds["c"].high, kinds["c"].step) == (2, 8, 3)
    assert kinds["d"].choices == ("x", "y")
    assert not kinds["e"].log


@pytest.mark.parametrize("wrong", ["a=interval(1,0)", "a=tag(log,interval(0,1))", "a=range(3,3)"])
def test_a_space_without_values_is_refused(wrong):
    with pytest.raises(UserError, match=r"^a="):
        list(Space([wrong]).probes())


@pytest.mark.parametrize("mixed", ["a=choice(x,y),z", "a=shuffle(range(0,3))", "a=shuffle(x,y)"])
def test_a_space_that_cannot_be_listed_in_a_fixed_order_is_one_line(mixed):
    with pytest.raises(UserError) as error:
        Space([mixed])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "settings", "wanted"),
    [
        ("fc", {}, [("val/loss", "min")]),
        ("vae", {}, [("val/bound_nats", "min")]),
        ("dcgan", {}, [("val/fid_own", "min")]),
        ("fc", {"metric": "val/acc"}, [("val/acc", "max")]),
        ("fc", {"metric": ["val/acc", "parameters"], "mode": ["max", "min"]},
         [("val/acc", "max"), ("parameters", "min")]),
    ],
)  # fmt: skip
def test_the_model_names_the_objective_unless_it_is_set(model, settings, wanted):
    cfg = OmegaConf.to_container(compose("train", [f"model={model}"]))
    cfg["objective"] |= settings
    assert objectives(cfg) == wanted


def test_an_objective_needs_a_direction_and_a_metric():
    cfg = OmegaConf.to_container(compose("train", ["model=fc"]))
    cfg["objective"]["metric"] = "val/ac"
    with pytest.raises(UserError, match=r"objective.mode must be given.*did you mean val/acc"):
        objectives(cfg)
    found = {"val/acc": 0.5, "val/loss": None}
    assert objective_values(found, [("val/acc", "max")]) == [0.5]
    assert math.isnan(objective_values(found, [("val/loss", "min")])[0])
    with pytest.raises(UserError, match="val/ac is not a metric of this run; did you mean val/acc"):
        objective_values(found, [("val/ac", "max")])


def test_a_recipe_composes_to_the_config_of_its_job(tmp_path):
    job = [
        "experiment=vgg_cifar10", "model/optimizer=muon", "augment=[crop,flip]", "data.size=48",
        "model.optimizer.lr=0.012345678901234567", "note='a: b, c'", "name=x", "test=false",
        "tags=[]",
    ]  # fmt: skip
    path = tmp_path / "best.yaml"
    write_recipe(job, ["The best"], path)
    assert "name: x" not in path.read_text()
    expanded = with_recipe([f"experiment={path}", "note='a: b, c'", "name=x"])
    assert compose("train", expanded) == compose("train", job)
    over = compose("train", with_recipe([f"experiment={path}", "data.size=40"]))
    assert over.data.size == 40, "a setting of the command line wins"


def test_a_recipe_that_cannot_be_read_gets_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        with_recipe([f"experiment={tmp_path}/none.yaml"])


@pytest.mark.parametrize(("rates", "is_log"), [(("0.001", "0.01"), True), (("1", "2"), False)])
def test_plots_of_a_setting_that_differs_tenfold_are_logarithmic(rates, is_log):
    points = []
    for trial, rate in enumerate(rates):
        job = Job(Path(rate), [], {"model.optimizer.lr": rate, "augment": "'none'"}, trial)
        row = Row(job, Outcome("finished", [1.0]), 1.0)
        points.append(Point(job.values, [row], [estimate([1.0])]))
    trials = study_of(points, [("val/loss", "min")]).trials
    assert [trial.params["lr"] for trial in trials] == [float(rate) for rate in rates]
    assert trials[0].distributions["lr"].log == is_log
    assert trials[0].params["augment"] == "none"
