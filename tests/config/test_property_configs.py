"""Any overrides are refused in one line, or pass the checks and then also train."""

import tempfile
from functools import cache
from pathlib import Path

import torch
from hypothesis import strategies as st
from omegaconf import OmegaConf

from src.config.checks import check
from src.config.compose import compose, groups
from src.config.overrides import quoted
from src.sweep.space import Space
from src.train import train
from tests.config.choices import CONFIGS, config_of
from tests.properties import draws, holds, refused

VALUES = """
    null nan inf -inf -0.0 0 1 -1 2 28 1e999 1e-3 .5 1. 1_000 0x10 true false on None abc ü 🙂 ~ =
    a=b a:b a,b 1,2 ??? . [] [0] [null] [[]] {} {a:1} {null:1} [{}] [{a:1}] [a,b,c] [0.5,0.5]
    [28,28] [1,2,3] {a:{b:1}} ${model} ${data} ${seed} [${model}] ${nope} ${model. ${oc.env:HOME}
    ${oc.env:NO_SUCH} ${oc.select:model} ${oc.decode:[} ${now:%Y} ${hydra:job.name} ${.} ${..seed}
    ${seed}${seed} "${model}" "" '' "1e-3" '???'
    range(0,3) choice(1,2) interval(0,1) glob(*) shuffle(1,2) int(3) float(x) sort(3,1) tag(a,1)
    extend_list(1) 999999999999999999999999 auto none backbone {_target_:src.models.gan.GAN}
    src.models.gan.GAN src.losses.Hinge src.losses.GANLoss src.optim.schedules.Plateau
    src.optim.schedules.unwrap_partial src.nets.fc.generator src.nets.convnet.convnet
    src.callbacks.protocols.CanSample src.callbacks.loggers.CSVLogger src.data.sets.mnist.Mnist
    torch.optim.Adam torch.optim.Nothing torch.optim.Optimizer torch.nn.Linear torch.nn.Flatten
    torchvision.models.resnet99 torch.load pytorch_lightning.Trainer
""".split()  # noqa: SIM905 (a list of these would be twice as long)
VALUES += ["a b", "'a b'", "a\nb", "\t", "\\", " ", "x" * 300]
KEYS = """
    x x.seed name _target_ . a.b.c model/loss model/net hydra.run.dir hydra.job.num hydra/launcher
    hydra defaults experiment augment data model callbacks logger trainer /model model@x
    data@foo:bar model/ ü 0 null [a] model.optimizer.0 model..lr callbacks.x callbacks.x._target_
    logger.y augment.z checkpoint.seed model._args_ model._recursive_ model._convert_
""".split()  # noqa: SIM905 (a list of these would be twice as long)


@cache
def paths(name: str, given: tuple[str, ...]) -> list[str]:
    """Return the dotted names in the config of a command."""

    def below(node, path=""):
        for key, child in node.items():
            yield f"{path}{key}"
            if isinstance(child, dict):
                yield from below(child, f"{path}{key}.")

    return list(below(OmegaConf.to_container(compose(name, list(given)), resolve=False)))


@st.composite
def command_lines(draw) -> tuple[str, list[str]]:
    """Draw the name of a command and one to four overrides, most of them wrong."""
    name, given = config_of(*draw(st.sampled_from(CONFIGS)))
    return name, [
        *given,
        *(override(draw, paths(name, given)) for _ in range(draw(st.integers(1, 4)))),
    ]


def override(draw, known: list[str]) -> str:
    sign = draw(st.sampled_from(["", "", "", "", "+", "++", "~", "~~", "-"]))
    if draw(st.integers(0, 5)) == 0:
        group = draw(st.sampled_from(sorted(groups())))
        return f"{sign}{group}={draw(st.sampled_from([*groups()[group], *VALUES]))}"
    key = draw(st.sampled_from(known if draw(st.integers(0, 3)) else KEYS))
    key += draw(st.sampled_from([*[""] * 9, ".a", ".lr", "._target_", ".0", ".seed"]))
    if draw(st.integers(0, 4)) == 0 or sign == "~":
        return f"{sign}{key}"
    words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
    return f"{sign}{key}={draw(st.sampled_from(VALUES) if draw(st.integers(0, 9)) else words)}"


@draws(20, 1000)
def test_any_overrides_pass_or_get_one_line(count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = {True: 0, False: 0}

    def claim(drawn):
        name, overrides = drawn
        words = overrides if name == "train" else [quoted(override) for override in overrides]
        seen[refused(lambda: check(compose(name, words), name)) is None] += 1

    holds(count, command_lines(), claim)
    assert min(seen.values()) > 0, seen


@draws(20, 200)
def test_any_sweep_is_split_or_gets_one_line(count):
    def claim(drawn):
        def split():
            space = Space(drawn[1])
            assert all(space.job(values) for values in space.probes())
            if not space.intervals:
                assert next(space.grid()).keys() == space.swept.keys()

        refused(split)

    holds(count, command_lines(), claim)


@st.composite
def small_runs(draw) -> list[str]:
    """Draw overrides of a run of two batches; one or two settings have another likely value."""
    model = draw(st.sampled_from(sorted(LIGHT)))
    given = (
        f"model={model}",
        *LIGHT[model],
        "~callbacks.quality",
        *TWO_BATCHES,
    )
    known = [path for path in paths("train", given) if path not in KEPT]
    plain = OmegaConf.to_container(compose("train", list(given)), resolve=True)
    changes = []
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(known))
        if draw(st.integers(0, 9)) == 0:
            changes.append(f"~{path}")
        else:
            changes.append(f"{path}={draw(st.sampled_from(LIKELY[type(value_at(plain, path))]))}")
    return [*given, *changes]


def value_at(node, path):
    for key in path.split("."):
        node = node[key]
    return node


TWO_BATCHES = (
    "trainer=debug",
    "trainer.limit_train_batches=2",
    "trainer.detect_anomaly=false",
    "trainer.max_epochs=1",
)
LIGHT = {  # models that train two batches in a moment
    "cnn": (
        "data=digits",
        "data.limit=40",
        "data.batch_size=16",
        "augment=strong",
        "callbacks=[default,early_stopping]",
    ),
    "draw": ("data=digits", "data.limit=40", "data.batch_size=16"),
    "fc": (
        "data=digits",
        "data.limit=40",
        "data.batch_size=16",
        "model/optimizer=adamw",
        "model/schedule=cosine",
    ),
    "gan": ("data=digits", "data.limit=40", "data.batch_size=16", "model/optimizer=rmsprop"),
    "sentiment": ("data=reviews",),
    "word_vectors": ("data=reviews",),
}
KEPT = (
    "trainer.max_epochs",
    "trainer.devices",
    "trainer.num_nodes",
    "data.workers",
    "out",
    "cache",
    "data.cache",
)
NUMBERS = ["0", "1", "2", "3", "5", "7", "0.5", "1e-3", "30", "-1", "1e9", "null"]
TEXTS = """
    auto none normal mean batch layer xavier dirac kaiming uniform reflect wrap nearest constant min
    max val/loss val/acc cpu 16-mixed 32-true bf16-mixed src.nets.fc.generator
    src.nets.convnet.convnet src.models.gan.GAN src.optim.schedules.linear
    src.optim.schedules.Plateau torch.optim.SGD torch.optim.LBFGS torch.optim.SparseAdam
    torch.optim.Adagrad torch.optim.Rprop torch.nn.Identity torchvision.models.alexnet
    src.data.transforms.augment.Scale src.callbacks.graph.Graph null
""".split()  # noqa: SIM905 (a list of these would be twice as long)
LIKELY = {  # a setting's type -> values
    int: NUMBERS,
    float: NUMBERS,
    bool: ["true", "false", "null", "1"],
    str: TEXTS,
    list: ["[]", "[1]", "[2,2]", "[0.5,0.5]", "[0.9,0.99]", "[M,M]", "[8,D]", "[0.0,0.0]", "null"],
    dict: ["null", "{}", "1"],
    type(None): [*NUMBERS, "a", "true", "backbone"],
}  # fmt: skip


@draws(8, 250)
def test_any_likely_setting_trains_or_gets_one_line(count, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    seen = {True: 0, False: 0}

    def claim(overrides):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))

        def action():
            cfg = compose("train", overrides)
            check(cfg)
            train(cfg, folder)

        try:
            seen[refused(action) is None] += 1
        finally:
            torch.autograd.set_detect_anomaly(False)
            torch.use_deterministic_algorithms(False)

    holds(count, small_runs(), claim)
    assert min(seen.values()) > 0, seen
