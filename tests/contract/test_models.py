"""The contract of `src.models.base.Family`, for every choice of model= and model/loss=."""

import math
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from src.callbacks import protocols
from src.callbacks.train_metrics import TrainMetrics
from src.core.errors import Interrupted
from src.core.randomness import generator
from src.engine import build
from src.engine.load import load_run
from src.losses import GANLoss
from src.models.base import Family
from src.train import train
from tests.conftest import saved
from tests.contract.small import (
    ACCELERATOR,
    LOSSES,
    MODELS,
    class_of,
    fast_models,
    overrides,
    small_run,
    uses_torchvision,
)
from tests.engine.interruptions import assert_same_run

EVERY_MODEL = [
    pytest.param(model, marks=[] if model in fast_models() else pytest.mark.slow)
    for model in MODELS
]
LARGE = 30_000_000  # parameters; the checkpoints of larger models take a gigabyte


def global_state():
    """Return the settings of torch that a model or a picture must not change."""
    return {
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        # tests on a GPU ask for trainer.deterministic
        "deterministic": ACCELERATOR == "cpu" and torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
    }


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    """Return a function: model -> the folder of its finished run; each is trained once."""
    finished: dict[str, Path] = {}

    def folder_of(model: str) -> Path:
        if class_of(model).endswith("StyleTransfer") and uses_torchvision(model):
            pytest.skip("needs torchvision's weights, a download")
        if model not in finished:
            cfg = small_run(*overrides(model, inputs), f"cache={inputs / 'cache'}")
            before = global_state()
            folder = saved(cfg, tmp_path_factory.mktemp(model) / "run")
            train(cfg, folder)
            assert global_state() == before, "training changed a global setting"
            finished[model] = folder
        return finished[model]

    return folder_of


def outputs_of_training(cfg, folder, monkeypatch):
    """Train; return the outputs of `training_step` for each batch, the Trainer and the metrics."""
    seen, trainers = [], []
    record = TrainMetrics.on_train_batch_end

    def remember(self, trainer, pl_module, outputs, batch, batch_idx):
        seen.append(outputs)
        trainers.append(trainer)
        record(self, trainer, pl_module, outputs, batch, batch_idx)

    monkeypatch.setattr(TrainMetrics, "on_train_batch_end", remember)
    metrics = train(cfg, saved(cfg, folder))
    return seen, trainers[-1], metrics


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_two_batches_return_a_flat_dict_of_finite_scalars(run, model):
    folder = run(model)
    _, built, _ = load_run(folder)
    assert isinstance(built, Family)
    header, *rows = (folder / "metrics.csv").read_text().splitlines()
    names = header.split(",")
    for name in ("train/images_per_second", *(f"train/{name}" for name in built.optimizer_names)):
        assert name in names
    assert built.monitor is None or built.monitor in names
    assert any(name.startswith("train/") and name.endswith("loss") for name in names), (
        "a key that ends in loss is shown on the progress bar"
    )
    values = [float(value) for row in rows for value in row.split(",") if value]
    assert values
    assert all(math.isfinite(value) for value in values)
    assert all(value.isfinite().all() for value in built.state_dict().values())


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_an_interrupted_and_resumed_run_is_bit_exact(run, model, tmp_path, monkeypatch):
    folder = run(model)
    cfg, built, _ = load_run(folder)
    if sum(p.numel() for p in built.parameters()) > LARGE:
        pytest.skip("its checkpoints are too large for a test")
    record, seen = TrainMetrics.on_train_batch_end, []

    def signalled(self, *args, **kwargs):
        seen.append(args)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        record(self, *args, **kwargs)

    monkeypatch.setattr(TrainMetrics, "on_train_batch_end", signalled)
    cut = saved(cfg, tmp_path / "cut")
    with pytest.raises(Interrupted):
        train(cfg, cut)
    torch.manual_seed(99)  # the resuming process has another random state
    cfg.resume = str(cut)
    train(cfg, cut)
    assert_same_run(folder, cut)


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_pictures_have_the_promised_shape_and_change_nothing(run, model):
    cfg, built, _ = load_run(run(model))
    images = torch.rand(3, cfg.data.channels, *side(cfg)) if "channels" in cfg.data else None
    torch.manual_seed(5)
    state = {name: value.clone() for name, value in built.state_dict().items()}
    before, rng, modes = global_state(), torch.get_rng_state(), modes_of(built)
    for picture, expected in pictures(built, images):
        assert picture.shape == expected
        assert picture.dtype == torch.float32
        assert 0 <= picture.min() <= picture.max() <= 1
    assert global_state() == before
    assert torch.equal(torch.get_rng_state(), rng), "a picture drew from the global generator"
    assert modes_of(built) == modes, "a picture left a net in another mode"
    for name, value in built.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_graphs_and_example_inputs_are_networks_with_an_input_that_they_take(run, model):
    cfg, built, _ = load_run(run(model))
    built._trainer = SimpleNamespace(datamodule=build.datamodule(cfg))
    graphs = built.graphs() if hasattr(built, "graphs") else {}
    examples = built.example_inputs()
    assert examples
    for net, example in (*graphs.values(), *examples.values()):
        with torch.no_grad():
            net(*example) if isinstance(example, tuple) else net(example)


def pictures(model, images):
    """Yield each picture that the model offers, with the shape that its Protocol promises."""
    shape = tuple(images.shape[1:]) if images is not None else ()
    if isinstance(model, protocols.CanSample):
        first, second = (model.sample(3, generator(0)) for _ in range(2))
        assert torch.equal(first, second), "samples are a function of the generator"
        yield first, (3, *shape)
    if isinstance(model, protocols.CanInterpolate):
        yield model.interpolate(2, 4, generator(0)), (8, *shape)
    if isinstance(model, protocols.CanReconstruct):
        yield model.reconstruct(images, generator(0)), images.shape
    if isinstance(model, protocols.CanEncode) and isinstance(model, protocols.CanDecode):
        z = model.encode(images)
        assert z.shape == (3, model.latent_dim)
        yield model.decode(z), images.shape
    if isinstance(model, protocols.CanDecode):
        yield model.decode(model.latents(3, generator(0))), (3, *shape)
    if isinstance(model, protocols.CanCompare):
        rows = model.compare(images, images, generator(0))
        yield rows[:, 0], (len(rows), *shape)
    if isinstance(model, protocols.CanPaint):
        for given in (None, images):
            yield model.canvases(3, generator(0), given).frames[-1], images.shape
    if isinstance(model, protocols.CanTranslate):
        yield model.translate(images), images.shape
    if isinstance(model, protocols.HasImportanceWeights):
        weights = model.log_weights(images, generator(0))
        assert weights.shape == (3,)
        assert weights.isfinite().all()


def side(cfg):
    size = cfg.data.size
    return (size, size) if isinstance(size, int) else tuple(size)


def modes_of(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("model", ["gan", "cdcgan"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_a_gan(inputs, tmp_path, monkeypatch, model, loss):
    given = [word for word in overrides(model, inputs) if "callbacks" not in word]
    cfg = small_run(*given, f"model/loss={loss}", "callbacks=none", "test=false")
    cfg.cache = str(tmp_path / "cache")
    outputs, trainer, _ = outputs_of_training(cfg, tmp_path / "run", monkeypatch)
    assert len(outputs) == 4
    for returned in outputs:
        assert {"d_loss", "g_loss"} <= returned.keys()
        assert all(value.ndim == 0 and value.isfinite() for value in returned.values())
        assert not any(value.requires_grad for value in returned.values())
    assert isinstance(trainer.lightning_module.loss, GANLoss)


def test_every_gan_loss_has_a_config():
    losses = {str(build.instantiate_node(_node(loss), "loss").__class__) for loss in LOSSES}
    assert losses == {str(loss) for loss in GANLoss.__subclasses__()}


def _node(loss):
    return small_run("model=gan", f"model/loss={loss}").model.loss
