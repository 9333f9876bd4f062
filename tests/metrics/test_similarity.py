"""PSNR and SSIM against NumPy and SciPy, also of a run in bf16."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from src.core.errors import UserError
from src.engine import build
from src.engine.load import load_run
from src.metrics.similarity import psnr, ssim
from src.train import train
from tests.conftest import saved
from tests.metrics.families import BF16, small


def structural_similarity(x, y):
    """Compute Wang 2004, eq. 13, in float64: 11 x 11 Gaussian window, sigma 1.5, reflected
    borders."""
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def blurred(image):
        return convolve2d(np.pad(image, 5, mode="reflect"), window, mode="valid")

    maps = []
    for a, b in zip(x.astype(np.float64), y.astype(np.float64), strict=True):
        mean_a, mean_b = blurred(a), blurred(b)
        var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
        both = blurred(a * b) - mean_a * mean_b
        c1, c2 = 0.01**2, 0.03**2
        maps.append((2 * mean_a * mean_b + c1) * (2 * both + c2)
                    / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))  # fmt: skip
    return np.mean(maps)


def decibels(x, y):
    return 10 * np.log10(1 / np.square(x.astype(np.float64) - y.astype(np.float64)).mean())


def test_psnr_and_ssim_of_equal_images_under_autocast():
    x = torch.rand(19, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.7
    y = (x + 0.05 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert ssim(x, x).item() == pytest.approx(1, abs=1e-12)
        pairs = list(zip(x.numpy(), y.numpy(), strict=True))
        assert ssim(x, y).item() == pytest.approx(
            np.mean([structural_similarity(*p) for p in pairs]), rel=1e-9
        )
        assert psnr(x, y).item() == pytest.approx(np.mean([decibels(*p) for p in pairs]), rel=1e-6)


def test_psnr_and_ssim_of_a_bf16_run_equal_scipy(config, photos, tmp_path):
    cfg = small(config, photos, "src.models.cyclegan.CycleGAN", BF16)
    values = train(cfg, saved(cfg, tmp_path / "run"))
    part = build.datamodule(cfg).test
    a, b = (side.images.numpy() / 255 for side in (part.a, part.b))
    _, model, _ = load_run(tmp_path / "run")
    with torch.no_grad():
        made = model.translate(torch.from_numpy(a).float(), "b").numpy()
    for name, x in (("untranslated", a), ("b", made)):
        pairs = list(zip(x, b, strict=True))
        expected = np.mean([structural_similarity(*pair) for pair in pairs])
        assert values[f"test/ssim_{name}"] == pytest.approx(expected, abs=1e-5), name
        expected = np.mean([decibels(*pair) for pair in pairs])
        assert values[f"test/psnr_{name}"] == pytest.approx(expected, rel=1e-5), name
    assert values["test/n"] == 9, "batches of 4, 4 and 1 count by their images"


@pytest.mark.parametrize("size", [(5, 32), (32, 1)])
def test_ssim_of_images_smaller_than_its_window_is_refused_in_one_line(size):
    x = torch.rand(2, 3, *size)
    with pytest.raises(UserError, match=r"^images of \d+ x \d+ are too small for SSIM: .* 6 x 6$"):
        ssim(x, x)
    assert ssim(torch.rand(2, 3, 6, 6), torch.rand(2, 3, 6, 6)).isfinite()
