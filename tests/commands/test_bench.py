"""`python -m src.bench`: which loops it times, and what it measures."""

import math
import sys
import time
import tomllib
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import Timer

from src.bench import compiling, startup
from src.bench.__main__ import bench, training_only
from src.bench.augment import bench_augment
from src.bench.baselines import PLAIN
from src.bench.clock import Clock
from src.bench.compiling import Comparison, bench_compiling
from src.bench.lean import Batches, classifier_step
from src.bench.startup import Start, measure_starts
from src.config.compose import compose
from src.core.errors import UserError
from src.nets.average import MovingAverage
from tests.conftest import ROOT, TINY_NETS, call, data_of

FAST = (
    *("bench.batches=1", "bench.warmup=1", "bench.rounds=1"),
    *("data.limit=16", "data.batch_size=4"),
)


@pytest.mark.parametrize(
    ("precision", "loops"),
    [
        ("bf16-mixed", ["plain", "lean", "empty", "ours", "float32"]),
        ("32-true", ["plain", "lean", "empty", "ours"]),
    ],
)
def test_bench_times_every_loop_in_every_round(capsys, precision, loops):
    speeds = call(
        "bench", bench, *TINY_NETS, *FAST, "bench.rounds=2", f"trainer.precision={precision}"
    )
    assert list(speeds.rates) == loops
    assert all(len(values) == 2 and min(values) > 0 for values in speeds.rates.values())
    lines = capsys.readouterr().out.splitlines()
    for number, line in enumerate(lines[1:3], 1):
        assert line.startswith(f"round {number}, images/s: plain ")
    assert lines[3].startswith("ours / plain: median ")


def test_bench_runs_each_loop_in_the_precision_that_it_names(monkeypatch, capsys):
    seen = []
    monkeypatch.setitem(PLAIN, "src.models.gan.GAN", lambda cfg, data: 100.0)
    for name in ("lean.lean_rate", "lean.empty_trainer_rate", "__main__.our_rate"):
        monkeypatch.setattr(
            f"src.bench.{name}",
            lambda cfg, data, precision, name=name: seen.append((name, precision)) or 250.0,
        )
    speeds = call("bench", bench, *TINY_NETS, "bench.rounds=2", "trainer.precision=bf16-mixed")
    assert [precision for _, precision in seen] == [*["bf16-mixed"] * 3, "32-true"] * 2
    assert speeds.ratios("plain") == [2.5, 2.5]
    assert "ours / plain: median 2.50" in capsys.readouterr().out


def test_bench_takes_any_optimizer_of_torch_and_any_shift(capsys):
    overrides = ("model=cnn", "model/optimizer=adamw", "augment=standard", "callbacks=none")
    assert len(call("bench", bench, *overrides, *FAST).rates["lean"]) == 1
    assert len(call("bench", bench, *TINY_NETS, "model/optimizer=sgd", *FAST).rates["lean"]) == 1
    assert "the plain loop does not augment with rotation, scale\n" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"a plain loop has no Muon: choose one of torch\.optim"):
        call("bench", bench, "model=cnn", "model/optimizer=muon", *FAST)


def test_bench_times_the_loops_that_are_asked_for(capsys, monkeypatch):
    limits = ("trainer.limit_train_batches=1", "trainer.max_time=00:00:00:01")  # ignored
    monkeypatch.setattr(Timer, "time_elapsed", lambda self, *stage: 2.0)
    speeds = call("bench", bench, "model=fc", *FAST, "bench.loops=[ours,lean]", *limits)
    assert min(speeds.rates["ours"]) > 0
    assert list(speeds.rates) == ["ours", "lean"]
    assert "ours / lean: median" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"bench\.loops=our: .*did you mean ours"):
        call("bench", bench, "model=fc", *FAST, "bench.loops=[our]")


def test_settings_of_validation_and_of_several_processes_do_not_disturb_a_benchmark():
    settings = (
        *("checkpoint.monitor=val/acc", "callbacks=[none,early_stopping]"),
        *("trainer.devices=2", "trainer.strategy=ddp", "bench.loops=[ours]"),
    )
    assert call("bench", bench, "model=fc", *FAST, *settings).rates["ours"][0] > 0


def test_a_benchmark_trains_all_parts_of_the_network():
    cfg = compose("bench", ["model=fc", "data=digits", "model.freeze_early=[0.1]"])
    data = SimpleNamespace(train_dataloader=lambda: range(5))
    assert training_only(cfg, data).model.freeze_early is None


def test_settings_that_the_other_loops_do_not_have_are_refused():
    with pytest.raises(UserError, match=r"trainer\.accumulate_grad_batches=2 is not in the other"):
        call("bench", bench, "model=fc", *FAST, "trainer.accumulate_grad_batches=2")


def test_the_plain_loop_makes_gray_images_color_for_a_net_that_needs_it():
    settings = ("model=resnet18", "bench.loops=[plain]", "callbacks=none")
    assert call("bench", bench, *settings, *FAST).rates["plain"][0] > 0


@pytest.mark.parametrize(("loop", "expected"), [("plain", False), ("ours", True)])
def test_only_the_plain_loop_trains_with_the_convolutions_of_torch(monkeypatch, loop, expected):
    asked = []  # whether a convolution that could use Winograd's algorithm is trained
    monkeypatch.setattr(
        "src.nets.winograd._is_supported", lambda x: asked.append(torch.is_grad_enabled())
    )
    settings = ("model=vgg", "model.net.features=[48,48,M]", "data=digits", f"bench.loops=[{loop}]")
    call("bench", bench, *settings, *FAST)
    assert any(asked) is expected


def test_a_loop_that_a_model_does_not_have_is_named():
    with pytest.raises(
        UserError, match=r"no lean loop for src\.models\.vae\.VAE; there is one for"
    ):
        call("bench", bench, "model=vae", *FAST, "bench.loops=[ours,lean]")


@pytest.mark.parametrize("loop", ["lean", "empty"])
def test_the_leanest_loops_train_what_ours_trains(monkeypatch, loop):
    """As many steps of the generator, and a moving average of its weights or the classifier's."""
    steps, averages = Counter(), []
    step, update = torch.optim.Adam.step, MovingAverage.update

    def count_step(self, *args, **kwargs):
        steps[id(self)] += 1
        return step(self, *args, **kwargs)

    def count_update(self, net):
        averages.append(net)
        return update(self, net)

    monkeypatch.setattr(torch.optim.Adam, "step", count_step)
    monkeypatch.setattr(MovingAverage, "update", count_update)
    six_batches = (*FAST, f"bench.loops=[{loop}]", "bench.warmup=2", "bench.batches=4")
    call("bench", bench, *TINY_NETS, "model.n_critic=3", "model.ema=0.9", *six_batches)
    assert sorted(steps.values()) == [2, 6], "generator and discriminator"
    assert len(averages) == 2
    call("bench", bench, "model=fc", "model.ema=0.9", *six_batches)
    assert len(averages) == 2 + 6


@pytest.mark.parametrize("change", ["binarize", "permute"])
@pytest.mark.parametrize("flip", ["none", "flip"])
def test_the_leanest_loops_change_images_as_the_run_does(config, change, flip):
    plain, changed = (
        next(iter(Batches(data_of(config, f"augment={flip}", *settings), torch.device("cpu"))))[0]
        for settings in ((), (f"data.{change}=true",))
    )
    assert not torch.equal(changed, plain)
    if change == "binarize":
        assert changed.unique().tolist() == [0, 1]
    else:
        assert torch.equal(changed.flatten(1).sort().values, plain.flatten(1).sort().values)


def test_the_lean_loop_trains_auxiliary_heads():
    """As GoogLeNet has them, whose weights take long to draw."""
    logits = [torch.randn(4, 10, requires_grad=True) for _ in range(3)]
    model = SimpleNamespace(
        net=lambda x: tuple(logits), scaled=abs, aux_weight=0.3, label_smoothing=0.0, average=None
    )
    _, loss = next(classifier_step(model, torch.rand(4, 1, 8, 8), torch.arange(4), 1))
    loss.backward()
    assert all(part.grad.abs().sum() > 0 for part in logits)


def test_bench_names_the_largest_costs(capsys):
    call("bench", bench, "model=fc", *FAST, "bench.profile=true")
    table = capsys.readouterr().out.partition("largest costs of ours")[2].splitlines()[2:]
    assert len(table) == 5
    assert any("backward pass" in line for line in table)


@pytest.mark.slow
def test_bench_measures_the_start_of_a_run(monkeypatch):
    run, durations = startup._start, []

    def timed(overrides):
        before = time.monotonic()
        start = run(overrides)
        durations.append(time.monotonic() - before)
        return start

    monkeypatch.setattr(startup, "_start", timed)
    (start,) = measure_starts(["model=fc", "data=digits", "bench.rounds=1"], 1)
    assert len(durations) == 2, "the first run only fills the caches"
    assert 1 < start.seconds < 0.9 * durations[1], "the run continues after its first batch"
    assert start.peak_memory_mb > 100
    with pytest.raises(UserError, match=r"src\.train failed: error: .*did you mean fc"):
        measure_starts(["model=fcc"], 1)


def test_compile_break_even_point(monkeypatch, capsys):
    def our_clock(cfg, data, precision):
        clock = Clock(1, 1)
        seconds, lost = (0.2, 9.0) if cfg.model.compile else (0.5, 1.0)
        clock.rate, clock.seconds, clock.lost = 4 / seconds, seconds, lost
        return clock

    monkeypatch.setattr(compiling, "our_clock", our_clock)
    (measured,) = call("bench", bench_compiling, "model=fc", *FAST)
    assert measured.cost == 8
    assert measured.break_even() == math.ceil(8 / 0.3)
    assert Comparison(measured.compiled, measured.eager).break_even() is None
    said = capsys.readouterr().out
    assert "eager 8 images/s, compiled 20 images/s, 8.0 s to compile, breaks even after 27" in said
    assert "medians: speedup 2.50, 8.0 s to compile" in said
    style = ("model=style_transfer", "data=style_pair", "data.content=A", "data.style=B")
    with pytest.raises(UserError, match=r"StyleTransfer has no setting model\.compile"):
        call("bench", bench_compiling, *style)


@pytest.mark.slow
def test_compiling_is_measured(capsys):
    (measured,) = call("bench", bench_compiling, "model=fc", *FAST, "bench.batches=5")
    assert measured.cost > 1
    assert measured.eager.rate > 0
    assert measured.compiled.rate > 0


def test_lost_seconds_are_those_of_a_slow_warm_up(monkeypatch):
    times = iter([100.0, 107.0, 109.0])  # made, after the warm-up, at the end
    monkeypatch.setattr("src.bench.clock.now", lambda: next(times))
    clock = Clock(3, 4)
    assert [clock(8) for _ in range(7)] == [False] * 6 + [True]
    assert (clock.rate, clock.seconds, clock.lost) == (16, 0.5, 5.5)


def test_bench_augment_names_the_extra_that_installs_kornia(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kornia", None)  # an import of it fails
    ratios = call("bench_augment", bench_augment, "batch_size=2", "batches=1", "rounds=1")
    assert list(ratios) == ["torchvision"]
    said = capsys.readouterr().out
    assert "kornia is not installed" in said
    extra = said.partition("pip install '.[")[2].partition("]'")[0]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert any(line.startswith("kornia") for line in extras[extra])


def test_start_ends_at_the_line_of_the_first_batch(monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\nfor word; do folder=${word#hydra.run.dir=}; done\necho 'a warning' >&2\n"
        "echo 'epoch 1/1 batch 1/20: loss 1' >&2\nmkdir -p $folder\n"
        "echo '{\"peak_memory_mb\": 123}' > $folder/metrics.json\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr("src.bench.startup.sys.executable", str(program))
    times = iter([0.0, 2.0, 10.0, 13.0])  # start and first batch, of the first run and of the next
    monkeypatch.setattr("src.bench.startup.time.perf_counter", lambda: next(times))
    (start,) = measure_starts([], 1)
    assert start == Start(3.0, 123)
