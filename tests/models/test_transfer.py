"""Transfer learning: which weights are loaded, and errors for those that do not fit."""

from pathlib import Path

import pytest
import torch

from src.config.compose import compose
from src.config.inputs import expect_pretrained
from src.core import runs
from src.core.errors import UserError
from src.engine import build
from src.engine.load import load_run
from src.train import train
from tests.conftest import TINY, command, saved, wrong
from tests.models.transfer import started, state_of


def test_average_mean_and_std_are_loaded_but_not_the_head(transfer_config, backbone):
    cfg, source = transfer_config(), state_of(backbone)
    model, data = started(cfg)
    torch.manual_seed(cfg.seed)
    drawn = build.model(cfg, data)
    for name, value in model.net.state_dict().items():
        expected = (
            drawn.net.state_dict()[name]
            if name.startswith("fc1.")
            else source[f"average.module.{name}"]
        )
        assert torch.equal(value, expected), name
        assert torch.equal(value, model.average.module.state_dict()[name])
    assert not torch.equal(source["net.conv1.weight"], source["average.module.conv1.weight"])
    assert torch.equal(model.mean, source["mean"])
    assert torch.equal(model.std, source["std"])
    assert not torch.allclose(model.mean.flatten().double(), data.moments()[0], atol=0.01), (
        "these images are brighter"
    )


def test_head_is_loaded_for_the_same_classes(transfer_config, backbone):
    model, data = started(
        transfer_config(
            "data.classes=[c,a,b]",
            f"model.init_from={backbone / 'checkpoints' / 'last.ckpt'}",
        )
    )
    old = load_run(backbone)[1]
    x = data.eval_images(data.test, torch.arange(8))[0]
    assert torch.equal(model.eval()(x), old(x))
    other, _ = started(transfer_config("data.classes=[a,b,c]"))
    assert not torch.equal(other.net.fc1.weight, model.net.fc1.weight), (
        "another order of classes has another head"
    )


def test_given_mean_and_std_are_not_overwritten(transfer_config, backbone):
    model, _ = started(transfer_config("model.normalize.mean=0.25", "model.normalize.std=null"))
    assert model.mean.unique().tolist() == [0.25]
    assert torch.equal(model.std, state_of(backbone)["std"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["model.net.features=[4,M,9,M,D]"],
            ["6 of another shape (conv2.weight [8, 4, 3, 3] for [9, 4, 3, 3], ", ", ...)"],
        ),
        (
            ["model.net.norm=none"],
            ["10 unexpected (norm1.weight, norm1.bias, norm1.running_mean, ...)"],
        ),
        (
            ["model.net.features=[4,M,8,8,M,D]"],
            ["6 missing (conv3.weight, conv3.bias, norm3.weight, ...)"],
        ),
        (
            ["model.net.features=[4,M,8,M,M]", "model.net.hidden_dims=[5]"],
            ["2 of another shape (fc1.weight [3, 32] for [5, 8], fc1.bias "],
        ),
        (
            ["data.permute=true"],
            ["its images had their pixels in another order (data.permute, data.size)"],
        ),
        (
            ["model.transfer.freeze=5"],
            ["model: freeze=5 leaves nothing to learn: the network has 5 layers"],
        ),
    ],
)
def test_mismatching_weights_are_named(transfer_config, more, words):
    with pytest.raises(UserError) as error:
        started(transfer_config(*more))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_auxiliary_heads_that_the_network_lacks_are_left_out(config, tmp_path):
    small = (*TINY, "model=googlenet", "data=digits", "data.size=32", "test=false")
    cfg = config(*small, "trainer.max_epochs=1", "data.limit=16", "data.val_size=0")
    train(cfg, saved(cfg, tmp_path / "run"))
    source = state_of(tmp_path / "run")
    assert "net.aux1.fc2.weight" in source
    net = ("model.net.aux_logits=false", f"model.init_from={tmp_path / 'run'}")
    model, _ = started(config(*small, *net))
    assert torch.equal(model.net.conv1.conv.weight, source["net.conv1.conv.weight"])


def test_source_with_another_pixel_order_is_refused(transfer_config, backbone, tmp_path):
    """Equal seeds permute equally. Another seed, or no permutation, is refused."""
    checkpoint = runs.load_checkpoint(backbone / "checkpoints" / "last.ckpt")
    part = next(
        part for part in checkpoint.values() if isinstance(part, dict) and "permutation" in part
    )
    part["permutation"] = build.datamodule(transfer_config("data.permute=true")).permutation
    torch.save(checkpoint, tmp_path / "permuted.ckpt")
    source = f"model.init_from={tmp_path / 'permuted.ckpt'}"
    started(transfer_config(source, "data.permute=true"))
    for other in ([], ["data.permute=true", "data.split_seed=1"]):
        with pytest.raises(UserError, match="pixels in another order"):
            started(transfer_config(source, *other))


def test_missing_source_is_answered_without_torch_and_without_a_folder(tmp_path):
    absent = f"model.init_from={tmp_path / 'x'}"
    line = wrong(command("train", "model=vgg", "data.size=32", absent, f"out={tmp_path / 'runs'}"))
    assert f"{absent} does not exist: give the folder of a run, or a checkpoint" in line
    assert not (tmp_path / "runs").exists()


def test_transfer_recipes_ask_for_a_run():
    """The recipes have the value RUN, which is refused, so that the net cannot start from random
    weights."""
    for name in ("transfer_frozen", "transfer_finetuned"):
        source = compose("train", [f"experiment={name}", "data.root=x"]).model.init_from
        with pytest.raises(
            UserError, match=r"model\.init_from must be given: give the folder of a run"
        ):
            runs.checkpoint_at(Path(source), "model.init_from")


def test_other_files_and_families_are_refused(transfer_config, tmp_path, gan_run):
    torch.save({"state_dict": {"net.x": torch.zeros(1)}}, tmp_path / "draw.ckpt")
    torch.save([1], tmp_path / "list.ckpt")
    (tmp_path / "text.ckpt").write_text("nothing")
    for path, words in (
        (tmp_path / "draw.ckpt", "is not the checkpoint of a Classifier"),
        (tmp_path / "list.ckpt", "is not the checkpoint of a Classifier"),
        (tmp_path / "text.ckpt", "is a damaged checkpoint"),
        (tmp_path, "is not a run folder"),
    ):
        with pytest.raises(UserError, match=words):
            started(transfer_config(f"model.init_from={path}"))
    with pytest.raises(
        UserError, match=r"model\.init_from=.* holds a GAN; give the run of a class"
    ):
        expect_pretrained(transfer_config(f"model.init_from={gan_run}"))
