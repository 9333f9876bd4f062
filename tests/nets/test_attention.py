"""The windows and filters of DRAW against the paper's formulas in NumPy, one pixel at a time."""

import numpy as np
import pytest
import torch

from src.nets.attention import (
    Attention,
    NoAttention,
    filter_bank,
    product_as_sum,
    read,
    window,
    write,
)

SHAPES = [(28, 28, 5), (28, 28, 2), (28, 28, 1), (13, 20, 5), (20, 13, 4), (9, 9, 9)]  # B, A, N


def paper(parameters, n, height, width):
    """Gregor 2015, eq. 19 to 26 for one image, in float64: F_Y (n, B), F_X (n, A), gamma."""
    gx, gy, log_sigma2, log_delta, log_gamma = (float(p) for p in parameters)
    g_x, g_y = (width + 1) / 2 * (gx + 1), (height + 1) / 2 * (gy + 1)
    delta = 0.0 if n == 1 else (max(width, height) - 1) / (n - 1) * np.exp(log_delta)
    banks = []
    for center, pixels in ((g_y, height), (g_x, width)):
        bank = np.zeros((n, pixels))
        for i in range(1, n + 1):
            mu = center + (i - n / 2 - 0.5) * delta
            for a in range(1, pixels + 1):
                bank[i - 1, a - 1] = np.exp(-((a - mu) ** 2) / (2 * np.exp(log_sigma2)))
        banks.append(bank / bank.sum(axis=1, keepdims=True))
    return *banks, np.exp(log_gamma)


def some(b, seed=0):
    """(b, 5) window parameters, each its own, none near zero."""
    spread = torch.tensor([0.5, 0.5, 0.6, 0.4, 0.5])
    return torch.randn(b, 5, generator=torch.Generator().manual_seed(seed)) * spread + torch.tensor(
        [0.2, -0.3, 0.4, -0.7, 0.3]
    )


def banks(parameters, n, height, width):
    w = window(parameters, n, height, width)
    return filter_bank(w.mu_y, w.sigma2, height), filter_bank(w.mu_x, w.sigma2, width), w.gamma


@pytest.mark.parametrize(("height", "width", "n"), SHAPES)
def test_filter_banks_equal_the_paper_in_numpy(height, width, n):
    """Finds: F_Y from mu_X; sigma squared twice; delta divided by exp; i from 0 with the -0.5 kept;
    pixels from 0."""
    parameters = some(4)
    f_y, f_x, gamma = banks(parameters, n, height, width)
    for k in range(4):
        expected_y, expected_x, expected_gamma = paper(parameters[k], n, height, width)
        assert np.allclose(f_y[k], expected_y, atol=2e-6)
        assert np.allclose(f_x[k], expected_x, atol=2e-6)
        assert gamma[k].item() == pytest.approx(expected_gamma, rel=1e-6)


@pytest.mark.parametrize(("n", "size"), [(5, 28), (4, 28), (1, 28), (28, 28)])
def test_neutral_window_spans_the_image(n, size):
    """All parameters 0: the first filter is on pixel 1, the last on pixel A, and the grid is in the
    middle of the image."""
    w = window(torch.zeros(1, 5), n, size, size)
    centers = np.linspace(1, size, n) if n > 1 else np.array([(size + 1) / 2])
    assert np.allclose(w.mu_x[0], centers, atol=1e-5)
    assert np.allclose(w.mu_y[0], centers, atol=1e-5)


def test_filter_far_outside_sums_to_one():
    parameters = torch.tensor([[50.0, -50.0, -8.0, 0.0, 0.0]])
    for bank in banks(parameters, 3, 28, 28)[:2]:
        assert torch.allclose(bank.sum(2), torch.ones(1, 3))
        assert bank.isfinite().all()


@pytest.mark.parametrize(("height", "width", "n"), SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_read_and_write_equal_the_paper_in_numpy(height, width, n, channels):
    """gamma F_Y x F_X^T and 1/gamma F_Y^T w F_X, every channel through the same grid."""
    generator = torch.Generator().manual_seed(1)
    parameters = some(3, 2)
    f_y, f_x, gamma = banks(parameters, n, height, width)
    images = torch.rand(3, height, channels, width, generator=generator)
    patch = torch.randn(3, n, channels * n, generator=generator)
    glimpse = read(images, f_y, f_x, gamma).view(3, n, channels, n)
    canvas = write(images, patch, f_y, f_x, gamma)
    for k in range(3):
        expected_y, expected_x, expected_gamma = paper(parameters[k], n, height, width)
        for c in range(channels):
            x, w = (
                images[k, :, c].double().numpy(),
                patch.view(3, n, channels, n)[k, :, c].double().numpy(),
            )
            assert np.allclose(
                glimpse[k, :, c], expected_gamma * expected_y @ x @ expected_x.T, atol=1e-4
            )
            assert np.allclose(
                canvas[k, :, c], x + expected_y.T @ w @ expected_x / expected_gamma, atol=1e-4
            )


def test_a_product_as_a_sum_equals_torch():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for shape in ((3, 4, 5), (3, 5, 2)))
    assert torch.allclose(product_as_sum(a, b), torch.bmm(a, b), atol=1e-5)


def test_reading_and_writing_have_separate_windows():
    """Slip: one layer of five parameters for both."""
    attention = Attention(8, 1, 28, 28, read_size=3, write_size=5)
    h = torch.randn(2, 8)
    gaze = attention.look(*(head(h) for head in attention.heads()))
    assert gaze.read_y.shape == (2, 3, 28)
    assert gaze.write_y.shape == (2, 5, 28)
    assert not torch.equal(gaze.read.sigma2, gaze.write.sigma2)
    assert attention.read_window.weight.data_ptr() != attention.write_window.weight.data_ptr()
    expected = window(attention.write_window(h), 5, 28, 28)
    assert torch.equal(gaze.write_x, filter_bank(expected.mu_x, expected.sigma2, 28))
    assert torch.equal(gaze.write.gamma, expected.gamma)


def test_glimpse_holds_the_image_and_the_error_image():
    attention = Attention(8, 3, 9, 7, read_size=4, write_size=2)
    h, x, canvas = torch.randn(2, 8), torch.rand(2, 9, 3, 7), torch.randn(2, 9, 3, 7)
    gaze = attention.look(*(head(h) for head in attention.heads()))
    both = attention.glimpse(x, canvas, gaze).view(2, 4, 6, 4)
    for part, image in ((both[:, :, :3], x), (both[:, :, 3:], x - torch.sigmoid(canvas))):
        assert torch.allclose(
            part.reshape(2, -1), read(image, gaze.read_y, gaze.read_x, gaze.read.gamma), atol=1e-5
        )


def test_without_attention_the_reading_is_the_image_and_the_error_image():
    """`fold` and `glimpse` together multiply the encoder's weight with [x, x - sigmoid(canvas)]."""
    whole = NoAttention(8, 3, 5, 4)
    x, canvas = torch.rand(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    weight = torch.randn(7, whole.features)
    folded, constant = whole.fold(x, weight)
    expected = torch.cat([x.flatten(1), (x - torch.sigmoid(canvas)).flatten(1)], 1) @ weight.T
    assert torch.allclose(
        whole.glimpse(x, canvas, torch.empty(0)) @ folded.T + constant, expected, atol=1e-4
    )


def test_initial_windows_follow_their_settings():
    """With h_dec = 0: log sigma^2 = 2 log sigma, delta is multiplied by the span, and 1 / gamma is
    the gain, for writing only."""
    torch.manual_seed(0)
    plain = Attention(8, 1, 28, 28, read_size=3, write_size=5)
    torch.manual_seed(0)
    other = Attention(
        8, 1, 28, 28, read_size=3, write_size=5, init_sigma=2.0, init_span=0.5, init_gain=50.0
    )
    for layer, change in (
        ("read_window", [0, 0, np.log(4), np.log(0.5), 0]),
        ("write_window", [0, 0, np.log(4), np.log(0.5), -np.log(50)]),
    ):
        difference = getattr(other, layer).bias - getattr(plain, layer).bias
        assert difference.tolist() == pytest.approx(change, abs=1e-6)
