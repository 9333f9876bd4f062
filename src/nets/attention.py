"""How DRAW reads and writes: through a grid of Gaussian filters, or the whole image.

Gregor 2015, sections 3.2 and 3.1.

Images are (B, H, C, W) here, rows first: each filter product is then one batched matrix product
without a copy. A = W columns and B = H rows, as in the paper. Filters and products are float32;
with bf16-mixed, their five parameters come from a bf16 layer.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from src.core.types import Positive, PositiveInt


class Window(NamedTuple):
    """The position of a grid of N x N filters, for a batch.

    Attributes:
        mu_y, mu_x: (B, N) the filter centers in pixels: 1 is the middle of the first pixel, H or W
            the middle of the last (eq. 19, 20).
        sigma2: (B, 1) the variance of the filters in pixels squared.
        gamma: (B, 1) the intensity.
    """

    mu_y: Tensor
    mu_x: Tensor
    sigma2: Tensor
    gamma: Tensor


class AttentionOutput(NamedTuple):
    """The output of the attention heads: what is written, where, and where to read next.

    Attributes:
        patch: (B, N_write, C * N_write) the patch to write, rows first.
        read, write: the windows.
        read_y, read_x, write_y, write_x: (B, N, H or W) their filter banks F_Y and F_X.
    """

    patch: Tensor
    read: Window
    write: Window
    read_y: Tensor
    read_x: Tensor
    write_y: Tensor
    write_x: Tensor


def window(parameters: Tensor, n: int, height: int, width: int) -> Window:
    """Return the window of `n` x `n` filters (eq. 19 to 24).

    Args:
        parameters: (B, 5) the head's output (gx, gy, log sigma2, log delta, log gamma). g = 0 is
            the middle of the image, -1 and 1 lie half a pixel outside it; log delta = 0 spreads
            the grid over the longer side.
    """
    parameters = parameters.float()
    g_x = (width + 1) / 2 * (parameters[:, :1] + 1)  # (B, 1)
    g_y = (height + 1) / 2 * (parameters[:, 1:2] + 1)
    sigma2, delta, gamma = parameters[:, 2:].exp().split(1, dim=1)
    delta = (max(height, width) - 1) / max(n - 1, 1) * delta  # for n = 1 it has no effect
    offsets = torch.arange(1, n + 1, device=parameters.device) - n / 2 - 0.5  # i - N/2 - 0.5
    return Window(g_y + offsets * delta, g_x + offsets * delta, sigma2, gamma)


def filter_bank(mu: Tensor, sigma2: Tensor, pixels: int) -> Tensor:
    """Return Gaussians over the pixels 1..`pixels`, (B, N, pixels), rows sum to 1 (eq. 25, 26).

    The normalized Gaussian is a softmax. It needs no epsilon, even far outside the image.

    Args:
        mu: (B, N) centers.
        sigma2: (B, N) or (B, 1) variances.
    """
    a = torch.arange(1, pixels + 1, device=mu.device)
    return torch.softmax((a - mu.unsqueeze(2)).square() * (-0.5 / sigma2).unsqueeze(2), dim=2)


def read(images: Tensor, f_y: Tensor, f_x: Tensor, gamma: Tensor) -> Tensor:
    """Return gamma F_Y image F_X^T of each channel (eq. 27).

    images (B, H, C, W) -> (B, N * C * N), rows first.
    """
    b, height, c, width = images.shape
    n = f_y.shape[1]
    rows = product(f_y, images.reshape(b, height, c * width)).view(b, n * c, width)
    return product(rows, f_x.transpose(1, 2)).view(b, n * c * n) * gamma


def write(canvas: Tensor, patch: Tensor, f_y: Tensor, f_x: Tensor, gamma: Tensor) -> Tensor:
    """Return canvas (B, H, C, W) + 1/gamma F_Y^T patch F_X (eq. 29); patch is (B, N, C * N)."""
    b, height, c, width = canvas.shape
    n = f_y.shape[1]
    rows = product(f_y.transpose(1, 2), patch / gamma.unsqueeze(2)).view(b, height * c, n)
    return product(rows, f_x, plus=canvas.view(b, height * c, width)).view(b, height, c, width)


def product(a: Tensor, b: Tensor, plus: Tensor | None = None) -> Tensor:
    """Return a @ b + plus for batches of small matrices, (B, m, k) and (B, k, n).

    When compiled for a GPU it is a sum, which torch.compile fuses with the operations around it; a
    GPU's kernels for batches of matrices are slow for such small ones.
    """
    if a.is_cuda and torch.compiler.is_compiling():
        result = product_as_sum(a, b)
        return result if plus is None else plus + result
    return torch.bmm(a, b) if plus is None else torch.baddbmm(plus, a, b)


def product_as_sum(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b, the sum of the products of a's columns and b's rows."""
    return (a.unsqueeze(3) * b.unsqueeze(1)).sum(2)


class Attention(nn.Module):
    """Read and write through windows; each window comes from a linear map of h_dec.

    Args:
        hidden_dim: width of h_dec.
        channels, height, width: shape of the images.
        read_size: N of the reading grid.
        write_size: N of the writing grid.
        init_sigma: standard deviation of the filters at the start of training, in pixels.
        init_span: share of the longer image side that a grid spans at the start. At 1 the outer
            filters are centered on the image border, where there is little to see; a 2 x 2 grid
            has no others.
        init_gain: 1/gamma of writing at the start. The weights of a filter sum to 1, so at 1 a
            patch value changes a logit by at most 1/(2 pi sigma^2) of itself, and for the first
            epochs the model learns little but the mean image.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt,
        channels: PositiveInt,
        height: PositiveInt,
        width: PositiveInt,
        read_size: PositiveInt,
        write_size: PositiveInt,
        init_sigma: Positive = 1.0,
        init_span: Positive = 1.0,
        init_gain: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.read_size, self.write_size = read_size, write_size
        self.read_window, self.write_window = nn.Linear(hidden_dim, 5), nn.Linear(hidden_dim, 5)
        self.patch = nn.Linear(hidden_dim, channels * write_size * write_size)
        self.features = 2 * channels * read_size * read_size  # length of a reading
        with torch.no_grad():
            for layer in (self.read_window, self.write_window):
                layer.bias[2:4] += torch.tensor([2 * math.log(init_sigma), math.log(init_span)])
            self.write_window.bias[4] -= math.log(init_gain)

    def heads(self) -> list[nn.Linear]:
        """Return the linear maps of h_dec whose outputs `look` takes."""
        return [self.read_window, self.write_window, self.patch]

    def look(self, read_window: Tensor, write_window: Tensor, patch: Tensor) -> AttentionOutput:
        """Return both windows and their filter banks, which are computed together."""
        reading = window(read_window, self.read_size, self.height, self.width)
        writing = window(write_window, self.write_size, self.height, self.width)
        n = [self.read_size, self.write_size]
        sigma2 = torch.cat(
            [reading.sigma2.expand(-1, n[0]), writing.sigma2.expand(-1, n[1])], dim=1
        )
        read_y, write_y = filter_bank(
            torch.cat([reading.mu_y, writing.mu_y], 1), sigma2, self.height
        ).split(n, dim=1)
        read_x, write_x = filter_bank(
            torch.cat([reading.mu_x, writing.mu_x], 1), sigma2, self.width
        ).split(n, dim=1)
        patch = patch.float().unflatten(1, (n[1], -1))
        return AttentionOutput(patch, reading, writing, read_y, read_x, write_y, write_x)

    def fold(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the encoder's weight on a reading, and None: no part of a reading is constant."""
        return weight, None

    def glimpse(self, x: Tensor, canvas: Tensor, gaze: AttentionOutput) -> Tensor:
        """Read x and the error image x - sigmoid(canvas), (B, H, C, W) each (eq. 3, 4, 27)."""
        both = torch.cat([x, x - torch.sigmoid(canvas)], dim=2)
        return read(both, gaze.read_y, gaze.read_x, gaze.read.gamma)

    def paint(self, canvas: Tensor, gaze: AttentionOutput) -> Tensor:
        """Return the canvas (B, H, C, W) after a step (eq. 8, 29)."""
        return write(canvas, gaze.patch, gaze.write_y, gaze.write_x, gaze.write.gamma)

    def for_reading(self, gaze: AttentionOutput) -> AttentionOutput:
        """Return `gaze` with everything detached but the tensors that `glimpse` uses.

        If compiled, each output that could have a gradient costs the next step a kernel.
        """
        read, write = gaze.read, gaze.write
        return AttentionOutput(
            gaze.patch.detach(),
            Window(read.mu_y.detach(), read.mu_x.detach(), read.sigma2.detach(), read.gamma),
            Window(*[value.detach() for value in write]),
            gaze.read_y, gaze.read_x, gaze.write_y.detach(), gaze.write_x.detach(),
        )  # fmt: skip


class NoAttention(nn.Module):
    """Read all of [x, x_hat]; write a linear map of h_dec (eq. 17, 18).

    Args:
        hidden_dim: width of h_dec.
        channels, height, width: shape of the images.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt,
        channels: PositiveInt,
        height: PositiveInt,
        width: PositiveInt,
    ) -> None:
        super().__init__()
        self.patch = nn.Linear(hidden_dim, channels * height * width)
        self.features = 2 * channels * height * width

    def heads(self) -> list[nn.Linear]:
        """Return the linear maps of h_dec whose outputs `look` takes."""
        return [self.patch]

    def look(self, patch: Tensor) -> Tensor:
        """Return the head's output as it is, (B, H * C * W)."""
        return patch.float()

    def fold(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the encoder's weight on sigmoid(canvas), and the constant part of its gates.

        W [x, x - sigmoid(c)] = (W1 + W2) x - W2 sigmoid(c): the first term, (B, gates), is the
        same at every step, so it is computed once.
        """
        on_x, on_error = weight.chunk(2, dim=1)
        return -on_error, nn.functional.linear(x.flatten(1).to(weight.dtype), on_x + on_error)

    def glimpse(self, x: Tensor, canvas: Tensor, gaze: Tensor) -> Tensor:
        """Return sigmoid(canvas), (B, H * C * W): the part of the reading that changes."""
        return torch.sigmoid(canvas).flatten(1)

    def paint(self, canvas: Tensor, gaze: Tensor) -> Tensor:
        """Return the canvas (B, H, C, W) after a step (eq. 8, 18)."""
        return canvas + gaze.view_as(canvas)

    def for_reading(self, gaze: Tensor) -> Tensor:
        """Return `gaze` detached: `glimpse` does not take it."""
        return gaze.detach()
