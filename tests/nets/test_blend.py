"""A translator that paints over the image through a mask."""

import numpy as np
import torch

from src.engine import build
from src.nets.cyclegan import Blend, generator
from src.train import train
from tests.conftest import WINTER_RUN, saved, weights_of


def test_the_image_is_painted_over_where_the_mask_says_so():
    """By NumPy from what the inner net says; at first the mask is 0.12 everywhere."""
    torch.manual_seed(0)
    net = generator(3, 32, base_channels=4, n_blocks=1, blend=True)
    x = torch.rand(2, 3, 16, 20) * 2 - 1
    said = net.net(x).detach().numpy().astype(float)
    color, mask = np.tanh(said[:, :3]), 1 / (1 + np.exp(-said[:, 3:]))
    assert said.shape == (2, 4, 16, 20)
    assert abs(mask.mean() - 0.12) < 0.03
    expected = (1 - mask) * x.numpy() + mask * color
    assert np.allclose(net(x).detach().numpy(), expected, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).dtype is torch.float32


def test_a_mask_of_nothing_leaves_the_image():
    net = generator(3, 32, base_channels=4, n_blocks=1, blend=True)
    torch.nn.init.constant_(net.net[-1].bias[3:], -100.0)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(net(x), x)


def test_it_is_a_setting_that_both_translators_take(config, photos, tmp_path):
    cfg = config(
        *WINTER_RUN, f"data.root={photos}", "model.generator.blend=true", "trainer.max_epochs=1"
    )
    model = build.model(cfg)
    assert isinstance(model.g, Blend)
    assert isinstance(model.f, Blend)
    values = train(cfg, saved(cfg, tmp_path / "run"))
    assert values["val/psnr_b"] > 0
    learned = weights_of(tmp_path / "run")
    assert {name for name in learned if name.startswith("g.")} == {
        f"g.{name}" for name in model.g.state_dict()
    }
