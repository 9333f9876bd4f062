"""Annotations are the schema: their words, every parameter under src, every optimizer of torch, and
any wrong value."""

import inspect
import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Literal

import pytest
import torch
from omegaconf import OmegaConf

from src.config.annotations import Unknown, resolve
from src.config.checks import _check_fit, check
from src.config.compose import CONF, compose
from src.config.kinds import SWEEPER, kind_of
from src.config.overrides import quoted, settings_with
from src.config.resume import _change, resumable
from src.config.schema import allowed_values
from src.config.signatures import signature
from src.config.targets import AUGMENT, check_targets
from src.core import types
from src.core.errors import UserError
from src.core.types import PATH
from tests.config.choices import CHOICES, CONFIGS, chosen, command_for, config_of
from tests.properties import refused

NEVER = [[{"a": 1}], {"a": 1}, {None: None}]  # no setting takes these
WRONG = [
    None, True, -1, 0, 1.5, 10**30, float("nan"), float("inf"), "", "word", "größe 写真 🙂", "1e-3",
    "\0", "x" * 500, [], [1], [0.5, 0.5], ["a", "b", "c"], [None], [[]],
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "good", "bad", "words"),
    [
        (types.PositiveInt, [1, 9], [0, 1.0, True, "1", None], "a whole number of at least 1"),
        (types.Fraction, [0, 0.5], [1, -0.1, "a"], "a number in [0, 1)"),
        (types.Positive, [1e-9, 3], [0, float("inf"), float("nan")], "a number above 0"),
        (types.Probability | None, [None, 1], [1.1], "a number from 0 to 1, or null"),
        (types.Counted, [None, 3], [0], "a whole number of at least 1, or null"),
        (types.Pair[types.Fraction], [[0, 0.9]], [[0.9], [1, 1], 0.9],
         "a list of 2 numbers in [0, 1)"),
        (Sequence[int], [[1]], [[], 1, ["a"]], "a non-empty list of whole numbers"),
        (types.AnyLength[int], [[], [1]], [[1.5]], "a list of whole numbers"),
        (tuple[float, int], [[0.5, 1]], [[1, 0.5]],
         "a list of 2 members: a number; a whole number"),
        (Literal["auto", -1, True], ["auto", -1, True], [1, "x"], "one of auto, -1, true"),
        (bool, [True], [1, "true"], "true or false"),
        (str, ["a"], ["", 3, "\0"], "text"),
        (types.ImageSize, [28, [28, 32]], [0, [28], [28, 5000]],
         "a whole number from 1 to 4096, or a list of 2"),
        (types.Color, ["red", "#fff", [0, 0, 255]], ["rad", [1, 2], [1, 2, 256]],
         "a color's name, '#rrggbb', or a list of 3"),
        (types.Duration, ["00:12:00:00"], ["12:00", 3, "00:00:00:00"], "DD:HH:MM:SS"),
        (types.PictureName, ["a.PNG"], ["a.txt", ".", 3], "a name that ends in one of .png"),
        (dict[str, types.PathText], [{}, {"a": "b"}], [{"a": 1}, 3], "a mapping"),
        (Annotated[int, types.Interval(ge=2, le=9)], [2, 9], [1, 10], "a whole number from 2 to 9"),
        (float | torch.Tensor, [1.0], [], ""),
    ],
)  # fmt: skip
def test_error_of_each_type_says_what_it_takes(kind, good, bad, words):
    assert [allowed_values(value, kind) for value in good] == [None] * len(good)
    for value in bad:
        assert allowed_values(value, kind).startswith(words), value


def test_annotations_are_resolved_without_importing_their_module():
    assert resolve("PositiveInt | None", "src.config.commands") == types.PositiveInt | None
    assert resolve("Init", "src.nets.gan") == resolve("Init", "src.nets.init")
    limited = Annotated[int, types.Interval(ge=2)]
    assert resolve("Annotated[int, Interval(ge=2)]", "src.nets.cifar") == limited
    assert resolve("Literal['a', -1]", "src.config.commands") == Literal["a", -1]
    for nothing in ("", "Nothing", "np.ndarray", "a b", "list[Nothing, 1]["):
        assert resolve(nothing, "src.data.base") is Unknown


def targets_in_conf():
    """Return each class and function of src that a config names."""
    text = "\n".join(path.read_text() for path in CONF.rglob("*.yaml"))
    return sorted({*re.findall(r"_target_: (src\.\S+)", text), AUGMENT})


@pytest.mark.parametrize("target", targets_in_conf())
def test_every_parameter_has_an_annotation(target):
    for name, parameter in signature(target).parameters.items():
        if name not in supplied(target) and kind_of(*parameter[:2]) is None:
            kind = resolve(parameter.annotation, parameter.module)
            assert kind is not Unknown, f"{target}: {name}: {parameter.annotation or 'nothing'}"
            assert allowed_values([{"a": 1}], kind), f"{target}: {name} takes anything"


def supplied(target):
    """Return the names of the parameters that the program passes itself."""
    names = {"transforms", "folder", "batches_done", "params"}
    if re.fullmatch(SWEEPER.names, target):
        return set(SWEEPER.supplied)
    packages = ("src.optim.muon", "src.callbacks", "src.data.transforms")
    return names if target.startswith(packages) else ()


def test_settings_that_are_paths_are_known_before_a_config_is_composed():
    assert settings_with(PATH) >= {"out", "run", "images", "resume", "augment.run", "hydra.run.dir"}
    assert settings_with(PATH) >= {
        "data.root",
        "data.root_a",
        "data.content",
        "data.cache",
        "model.init_from",
    }

    assert not settings_with(PATH) & {"data", "data.name", "seed", "model.transfer.freeze"}


def test_resumable_settings_are_those_that_change_no_result():
    names = set(resumable(compose("train", ["model=vgg"])))
    assert names >= {"trainer.max_epochs", "trainer.devices", "data.workers", "data.root", "test"}
    assert names >= {"callbacks", "checkpoint"}
    assert not names & {"seed", "out", "trainer.precision", "data.batch_size", "model.optimizer"}


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("trainer.max_time=1:12:00:00", "1:12:00:00"),
        ("name='a: b'", "a: b"),
        ("name=on", "on"),
        ("name=null", None),
        ("tags=[a,'b c']", ["a", "b c"]),
        ("checkpoint.every_n_batches=1_000", 1000),
        ("callbacks.samples.n=4", 4),
    ],
)
def test_a_resumed_run_reads_values_as_a_new_one(override, value):
    cfg = compose("train", ["model=dcgan"])
    _change(cfg, quoted(override))
    assert OmegaConf.select(cfg, override.partition("=")[0]) == value


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("callbacks=[default,early_stopping]", "name single settings of callbacks"),
        ("trainer.max_epochs=1,2", "gives several values"),
        ("checkpoint.moniter=val/acc", "did you mean checkpoint.monitor"),
    ],
)
def test_a_resumed_run_refuses_other_values_in_one_line(override, words):
    with pytest.raises(UserError, match=re.escape(words)):
        _change(compose("train", ["model=dcgan"]), quoted(override))


OPTIMIZERS = [
    name
    for name, member in vars(torch.optim).items()
    if inspect.isclass(member) and issubclass(member, torch.optim.Optimizer) and name != "Optimizer"
]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_of_every_optimizer_can_be_set(name):
    parameters = inspect.signature(getattr(torch.optim, name)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    assert defaults
    plain = plain_config("train", ())
    target = {"_target_": f"torch.optim.{name}", "_partial_": True}
    given = {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}
    check_targets(plain | {"model": plain["model"] | {"optimizer": target | given}}, "train")


@pytest.mark.parametrize(
    "override",
    [
        "model.optimizer.dampening=0.1",
        "model.optimizer.maximize=true",
        "trainer.inference_mode=true",
        "model.schedule.gamma=2.0",
        "data.train_per_class=3",
    ],
)
def test_a_key_that_conf_does_not_mention_needs_no_plus(override):
    cfg = compose("train", ["model=vgg", "model/optimizer=sgd", "model/schedule=step", override])
    check(cfg)
    key, _, value = override.partition("=")
    assert str(OmegaConf.select(cfg, key)).lower() == value


def plain_config(name, given):
    return OmegaConf.to_container(_resolved(name, given))


@cache
def _resolved(name, given):
    cfg = compose(name, list(given))
    check(cfg, name)
    return cfg


@pytest.mark.slow
def test_any_value_of_any_setting_passes_or_gets_one_line():
    """Each parameter is tested once, in the first config that has it."""
    seen = set()
    for group, choice in CONFIGS:
        name, given = config_of(group, choice)
        plain = plain_config(name, given)
        for path, node, key in places(plain):
            place = (node.get("_target_", name), key)
            if place not in seen:
                seen.add(place)
                fuzz(name, plain, path, node, key)
    assert len(seen) > 200


def fuzz(name, plain, path, node, key):
    before = node[key]
    for value in (*WRONG, *NEVER):
        node[key] = value

        def checked():
            check_targets(plain, name)
            if name == "train":
                _check_fit(plain)

        line = refused(checked)
        if value in NEVER or value == "\0":
            assert line or path in ("callbacks", "augment", "logger"), (path, value)
        assert line is None or len(line) < 600
    node[key] = before


def places(node, path=""):
    """Yield each value and node below `node`: its path, the node that holds it and its key."""
    for key, child in list(node.items()):
        yield f"{path}{key}", node, key
        if isinstance(child, dict):
            yield from places(child, f"{path}{key}.")


@pytest.mark.slow
@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=[f"{g}={c}" for g, c in CHOICES])
def test_any_value_in_any_config_passes_or_gets_one_line(group, choice):
    """Each setting of each choice gets each value."""
    name = command_for(group, choice)
    plain = plain_config(name, chosen(group, choice))
    for path, node, key in places(plain):
        fuzz(name, plain, path, node, key)


@pytest.mark.slow
@pytest.mark.parametrize(("group", "choice"), CONFIGS, ids=[f"{g}={c}" for g, c in CONFIGS])
def test_any_override_passes_or_gets_one_line(group, choice):
    """The values pass through Hydra's grammar, another one for each setting."""
    name, given = config_of(group, choice)
    words = ["null", "true", "-1", "1.5", "1e30", "nan", "''", "größe", "[]", "[0.5,a]", "{a:1}"]
    words += ["[{a:1}]", "${seed}", "${nope}", "???", "a,b", "'1e-3'"]
    plain = OmegaConf.to_container(compose(name, list(given)), resolve=False)
    for k, (path, _, _) in enumerate(places(plain)):
        overrides = [*given, f"{path}={words[k % len(words)]}"]
        refused(lambda: check(compose(name, overrides), name))  # noqa: B023
