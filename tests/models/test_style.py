"""Style transfer: the loss, resume, translation and errors."""

import csv
import itertools
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from src.augment import augment
from src.config.checks import check
from src.config.compose import compose
from src.core import runs
from src.core.errors import UserError
from src.data.decode import Fit, decode
from src.engine import build
from src.engine.load import load_run
from src.evaluate import evaluate
from src.models.style_transfer import StyleTransfer
from src.sample import sample
from src.train import train
from src.translate import translate
from tests.conftest import ON_CPU, TINY, call, command, saved, weights_of, wrong
from tests.data.test_folder import write_folder
from tests.engine.interruptions import assert_same_run, interrupted_and_resumed

VGG = (*TINY, "model=vgg", "data=folder", "model.net.features=[4,M,8,8]", "data.size=16",
       "data.cache=null", "test=false",
       "data.channels=3", "trainer.max_epochs=1")  # fmt: skip
STYLE = (*ON_CPU, "model=style_transfer_own", "data=style_pair", "model.net.features=[4,M,8]",
         "data.size=[16,20]",
         "model.content_layers=[relu2]", "model.style_layers=[relu1,relu2]",
         "model.optimizer.max_iter=3", "data.num_steps=12",
         "model.style_weight=100", "model.tv_weight=0.01", "checkpoint.every_n_batches=null",
         "test=false")  # fmt: skip


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    """A folder with a VGG trained on images of one color, a photograph and a style."""
    top = tmp_path_factory.mktemp("style")
    write_folder(top / "in", n=8)
    cfg = compose("train", [*VGG, f"data.root={top / 'in'}", "model.ema=0.5"])
    check(cfg)
    train(cfg, saved(cfg, top / "vgg"))
    noise = np.random.default_rng(0)
    for name, shape in (("photo.png", (30, 40, 3)), ("style.jpg", (50, 50, 3))):
        Image.fromarray(noise.integers(0, 256, shape, dtype=np.uint8)).save(top / name)
    return top


def settings(top, *more):
    files = (
        f"data.content={top / 'photo.png'}",
        f"data.style={top / 'style.jpg'}",
        f"model.init_from={top / 'vgg'}",
    )
    return [*STYLE, *files, *more]


@pytest.fixture(scope="module")
def uninterrupted(top):
    cfg = compose("train", settings(top, "callbacks=default", "~callbacks.quality"))
    check(cfg)
    train(cfg, saved(cfg, top / "uninterrupted"))
    return top / "uninterrupted"


def test_loss_is_the_weighted_sum_over_layers(uninterrupted):
    _, model, _ = load_run(uninterrupted)
    assert isinstance(model, StyleTransfer)
    x = model.image.detach().unsqueeze(0)
    maps = {
        name: [model.maps(image)[name] for image in (x, model.content, model.style)]
        for name in ("relu1", "relu2")
    }
    content = 0.5 * (maps["relu2"][0] - maps["relu2"][1]).square().sum()
    style = 0.0
    for of_x, _, of_style in maps.values():
        n, m = of_x.shape[1], of_x[0, 0].numel()
        g, a = (torch.einsum("nhw,mhw->nm", y[0], y[0]) for y in (of_x, of_style))
        style = style + (g - a).square().sum() / (4 * n**2 * m**2) / 2
    tv = x.diff(dim=2).square().sum() + x.diff(dim=3).square().sum()
    values = model.losses(x, model.make_targets(model.content, model.style))
    assert values["loss"].item() == pytest.approx(
        (content + 100 * style + 0.01 * tv).item(), rel=1e-5
    )
    measured = call("evaluate", evaluate, f"run={uninterrupted}")
    assert measured["test/loss"] == pytest.approx(values["loss"].item(), rel=1e-4)


def test_net_comes_from_the_runs_average_and_stays_fixed(top, uninterrupted):
    source, state = weights_of(top / "vgg"), weights_of(uninterrupted)
    for name, value in state.items():
        if name.startswith("net."):
            assert torch.equal(value, source[f"average.module.{name.removeprefix('net.')}"]), name
    assert torch.equal(state["mean"], source["mean"])
    assert torch.equal(state["std"], source["std"])
    photo, style = (
        decode(top / name, Fit((16, 20), 3)) / 255 for name in ("photo.png", "style.jpg")
    )
    assert torch.equal(state["content"][0], photo)
    assert torch.equal(state["style"][0], style)
    assert not torch.allclose(state["image"], photo, atol=0.01)


def test_losses_fall_and_every_step_is_logged(uninterrupted):
    rows = [float(row["train/loss"]) for row in _rows(uninterrupted) if row["train/loss"]]
    assert len(rows) == 12
    assert rows[-1] < 0.5 * rows[0]
    assert all(later <= earlier for earlier, later in itertools.pairwise(rows)), (
        "a line search does not go up"
    )
    names = [path.name for path in sorted((uninterrupted / "images").glob("comparisons*"))]
    assert names == ["comparisons.gif", *(f"comparisons_{n:08d}.png" for n in range(1, 13))]
    assert not list((uninterrupted / "images").glob("filters*")), "the net's filters never change"


def _rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_resume_at_any_batch_is_bit_exact(top, uninterrupted, config, tmp_path, monkeypatch, cut):
    """The history of L-BFGS is restored."""
    cfg = config(*settings(top, "callbacks=default", "~callbacks.quality"))
    folder = interrupted_and_resumed(
        StyleTransfer, cfg, tmp_path, monkeypatch, cut, "optimizer_step"
    )
    assert_same_run(uninterrupted, folder)
    remembered = runs.load_checkpoint(folder / "checkpoints" / "last.ckpt")["optimizer_states"][0][
        "state"
    ][0]
    assert len(remembered["old_dirs"]) == 20


@pytest.mark.parametrize(
    ("optimizer", "schedule"), [("lbfgs", "constant"), ("adam", "constant"), ("adam", "cosine")]
)
def test_translations_are_independent_of_each_other(top, config, tmp_path, optimizer, schedule):
    """The run's own photograph gives the run's own image, also in a batch with other images."""
    given = [
        value
        for value in settings(top, "data.num_steps=4")
        if optimizer == "lbfgs" or "max_iter" not in value
    ]
    cfg = config(*given, f"model/optimizer={optimizer}", f"model/schedule={schedule}")
    train(cfg, saved(cfg, tmp_path / "run"))
    _, model, _ = load_run(tmp_path / "run")
    photo = decode(top / "photo.png", Fit((16, 20), 3)).unsqueeze(0) / 255
    alone = model.translate(photo)
    assert torch.allclose(alone[0], model.image.detach().clamp(0, 1), atol=1e-3)
    assert (alone - photo).abs().mean() > 0.002
    both = model.translate(torch.cat([1 - photo, photo]))
    assert torch.equal(both[1:], alone)
    assert model.translate(torch.rand(1, 3, 12, 9)).shape == (1, 3, 12, 9)
    with pytest.raises(ValueError, match="of 9 x 1 is too small: it needs 2 x 2"):
        model.translate(torch.rand(1, 3, 1, 9))


def test_init_image_noise_starts_from_noise(top, config, tmp_path):
    cfg = config(
        *settings(
            top,
            "model.init_image=noise",
            "data.num_steps=1",
            "model.optimizer.max_iter=1",
            "model.optimizer.lr=1e-9",
        )
    )
    train(cfg, saved(cfg, tmp_path / "run"))
    image = weights_of(tmp_path / "run")["image"]
    assert image.std() == pytest.approx(12**-0.5, abs=0.03)
    assert (
        torch.corrcoef(
            torch.stack([image.flatten(), weights_of(tmp_path / "run")["content"].flatten()])
        )[0, 1].abs()
        < 0.15
    )
    _, model, _ = load_run(tmp_path / "run")
    photo = torch.rand(1, 3, 12, 9)
    once = model.translate(photo)
    torch.rand(7)
    assert torch.equal(model.translate(photo), once), (
        "the result does not depend on earlier random numbers"
    )
    assert (once - photo).abs().mean() > 0.2


@pytest.mark.slow
def test_init_from_takes_a_checkpoint_or_a_run(top, tmp_path):
    given = settings(
        top, f"model.init_from={top / 'vgg' / 'checkpoints' / 'last.ckpt'}", "data.num_steps=1"
    )
    result = command("train", *given, f"hydra.run.dir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    learned = weights_of(top / "vgg")["average.module.conv1.weight"]
    assert torch.equal(weights_of(tmp_path / "run")["net.conv1.weight"], learned)


def test_translate_applies_the_style_of_a_run(top, uninterrupted, tmp_path):
    """By src.translate, src.augment with several styles, and src.sample."""
    call(
        "translate",
        translate,
        f"run={uninterrupted}",
        f"images={top / 'photo.png'}",
        "size=[16,20]",
        f"out={tmp_path / 'out'}",
    )
    _, model, _ = load_run(uninterrupted)
    made = decode(tmp_path / "out" / "photo.png", Fit(None, 3)).float() / 255
    assert (made - model.image.detach().clamp(0, 1)).abs().max() < 0.01
    other = shutil.copytree(uninterrupted, tmp_path / "other")
    styles = f"augment.run=[{uninterrupted},{other}]"
    images = (f"data.root={top / 'in'}", "data.test_size=0.8", "data.val_size=0")
    call("augment", augment, *images, "augment=model", styles, f"out={tmp_path / 'more'}")
    with (tmp_path / "more" / "manifest.csv").open(newline="") as file:
        used = [row["transforms"] for row in csv.DictReader(file)]
    assert (
        {str(uninterrupted) in words for words in used}
        == {str(other) in words for words in used}
        == {True, False}
    )
    call("sample", sample, f"run={uninterrupted}", "scale=1", f"out={tmp_path / 'row.png'}")
    assert Image.open(tmp_path / "row.png").size == (3 * 22 + 2, 18 + 2)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["model.style_layers=[conv9]"],
            ["model: the network has no layer conv9; it has conv1, norm1, relu1, pool1, conv2"],
        ),
        (
            ["model.net.features=[4,M,9]"],
            ["does not fit the network", "conv2.weight [8, 4, 3, 3] for [9, 4, 3, 3]"],
        ),
        (
            ["model.net.features=[4,M,8,8,8]"],
            ["missing (conv4.weight, conv4.bias, norm4.weight, ...)"],
        ),
    ],
)
def test_mismatching_net_is_explained(top, config, more, words):
    cfg = config(*settings(top), *more)
    with pytest.raises(UserError) as error:
        build.model(cfg).load_pretrained(None)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_missing_files_are_explained_in_one_line(top, tmp_path):
    photo, style = f"data.content={top / 'photo.png'}", f"data.style={top / 'style.jpg'}"
    for args, words in (
        (["data=style_pair", photo], "data.style must be given"),
        (
            ["data=style_pair", photo, style, "augment=flip"],
            "data=style_pair holds a photograph and a style, which augment=flip",
        ),
        (
            ["data=digits"],
            "takes a photograph and a style (data=style_pair), but data=digits holds images",
        ),
        (
            ["data=style_pair", photo, style, "trainer.accumulate_grad_batches=2"],
            "there is only one image",
        ),
        (
            ["data=style_pair", photo, style, "trainer.precision=16-mixed"],
            "computes in float32 only",
        ),
        (
            ["data=style_pair", photo, style, "model.init_from=RUN"],
            "model.init_from must be given: give the folder",
        ),
        (
            ["data=style_pair", photo, "data.style=nothing.png"],
            "data.style=nothing.png cannot be read: No such file or directory",
        ),
    ):
        assert words in wrong(
            command(
                "train",
                "model=style_transfer_own",
                f"model.init_from={top / 'vgg'}",
                *args,
                f"out={tmp_path / 'runs'}",
            )
        )
    assert not (tmp_path / "runs").exists()
