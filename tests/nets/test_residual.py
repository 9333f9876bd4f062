"""A translator that learns the difference from the image."""

import numpy as np
import torch

from src.engine import build
from src.nets.cyclegan import AddToImage, generator
from src.train import train
from tests.conftest import WINTER_RUN, saved, weights_of


def test_residual_adds_the_difference_and_clamps_the_sum():
    torch.manual_seed(0)
    net = generator(3, 32, base_channels=4, n_blocks=1, residual=True)
    torch.nn.init.normal_(net.net[-1].weight, std=0.3)
    x = torch.rand(2, 3, 16, 20) * 2 - 1
    expected = np.clip(x.numpy() + net.net(x).detach().numpy(), -1, 1)
    made = net(x).detach().numpy()
    assert np.allclose(made, expected, atol=1e-6)
    assert (np.abs(made) == 1).any()
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).dtype is torch.float32


def test_residual_translator_starts_near_the_image():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    net = generator(3, 32, base_channels=4, n_blocks=1, residual=True)
    assert (net(x) - x).abs().mean() < 0.3


def test_both_translators_are_residual(config, photos, tmp_path):
    cfg = config(
        *WINTER_RUN, f"data.root={photos}", "model.generator.residual=true", "trainer.max_epochs=1"
    )
    model = build.model(cfg)
    assert isinstance(model.g, AddToImage)
    assert isinstance(model.f, AddToImage)
    values = train(cfg, saved(cfg, tmp_path / "run"))
    assert values["val/psnr_b"] > 0
    learned = weights_of(tmp_path / "run")
    assert {name for name in learned if name.startswith("g.")} == {
        f"g.{name}" for name in model.g.state_dict()
    }
