"""How DRAW sees and paints: through a grid of Gaussian filters (Gregor 2015, section 3.2), or the whole image (section 3.1).

Images are laid out (B, H, C, W) here, rows first, so that each filter product is one batched matrix product without a copy.
A = W columns, B = H rows, as in the paper. All of it is float32: in bf16 a filter's centre would be off by up to 1/16 pixel.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from src.core.types import Positive, PositiveInt


class Window(NamedTuple):
    """Where a grid of N x N filters stands, for a batch.

    Attributes:
        mu_y, mu_x: (B, N) the filters' centres in pixels: 1 is the middle of the first pixel, H or W of the last (eq. 19, 20).
        sigma2: (B, 1) their variance in pixels squared.
        gamma: (B, 1) the intensity.
    """

    mu_y: Tensor
    mu_x: Tensor
    sigma2: Tensor
    gamma: Tensor


class Gaze(NamedTuple):
    """All that an attentive decoder's state says: what it writes, where, and where it reads next.

    Attributes:
        patch: (B, N_write, C * N_write) what is written, rows first.
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
    """Eq. 19 to 24: (gx, gy, log sigma2, log delta, log gamma) of an h_dec, (B, 5), to the window of `n` x `n` filters.

    g = 0 is the middle of the image, -1 and 1 lie half a pixel outside it; log delta = 0 spreads the grid over the longer side.
    """
    parameters = parameters.float()
    g_x, g_y = (
        (width + 1) / 2 * (parameters[:, :1] + 1),
        (height + 1) / 2 * (parameters[:, 1:2] + 1),
    )  # (B, 1)
    sigma2, delta, gamma = parameters[:, 2:].exp().split(1, dim=1)
    delta = (
        (max(height, width) - 1) / max(n - 1, 1) * delta
    )  # n = 1: one filter, at g whatever its delta
    offsets = torch.arange(1, n + 1, device=parameters.device) - n / 2 - 0.5  # i - N/2 - 0.5
    return Window(g_y + offsets * delta, g_x + offsets * delta, sigma2, gamma)


def filter_bank(mu: Tensor, sigma2: Tensor, pixels: int) -> Tensor:
    """Eq. 25, 26: Gaussians at `mu` (B, N) with variance `sigma2` (B, N or 1) over the pixels 1..`pixels`: (B, N, pixels).

    Each row sums to 1. It is a softmax, which needs no epsilon where a filter lies far outside the image.
    """
    a = torch.arange(1, pixels + 1, device=mu.device)
    return torch.softmax((a - mu.unsqueeze(2)).square() * (-0.5 / sigma2).unsqueeze(2), dim=2)


def read(images: Tensor, f_y: Tensor, f_x: Tensor, gamma: Tensor) -> Tensor:
    """Eq. 27: gamma F_Y image F_X^T of every channel, images (B, H, C, W) -> (B, N * C * N), rows first."""
    b, height, c, width = images.shape
    n = f_y.shape[1]
    rows = torch.bmm(f_y, images.reshape(b, height, c * width)).view(b, n * c, width)
    return torch.bmm(rows, f_x.transpose(1, 2)).view(b, n * c * n) * gamma


def write(canvas: Tensor, patch: Tensor, f_y: Tensor, f_x: Tensor, gamma: Tensor) -> Tensor:
    """Eq. 29: canvas (B, H, C, W) + 1/gamma F_Y^T patch F_X, patch (B, N, C * N)."""
    b, height, c, width = canvas.shape
    n = f_y.shape[1]
    rows = torch.bmm(f_y.transpose(1, 2), patch / gamma.unsqueeze(2)).view(b, height * c, n)
    return torch.baddbmm(canvas.view(b, height * c, width), rows, f_x).view(b, height, c, width)


class Attention(nn.Module):
    """Reading and writing through windows that the decoder places, each by a linear map of its own.

    Args:
        hidden: width of h_dec.
        channels, height, width: of the images.
        read: N of the reading grid.
        write: N of the writing grid.
        sigma: what the filters' standard deviation begins near, in pixels.
        spread: what share of the image's longer side a grid's filters begin spread over. At 1 the corners of a grid stand in
            the image's, where there is little to see: with 2 x 2 filters there is nothing else.
        intensity: what 1/gamma of the writing begins near. A filter's weights sum to 1, so at 1 a patch's values move a
            pixel's logit by 1/(2 pi sigma^2) of themselves at most, and a net learns for epochs little but the mean image.
    """

    def __init__(
        self,
        hidden: PositiveInt,
        channels: PositiveInt,
        height: PositiveInt,
        width: PositiveInt,
        read: PositiveInt,
        write: PositiveInt,
        sigma: Positive = 1.0,
        spread: Positive = 1.0,
        intensity: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.height, self.width, self.n_read, self.n_write = height, width, read, write
        self.read_window, self.write_window = nn.Linear(hidden, 5), nn.Linear(hidden, 5)
        self.patch = nn.Linear(hidden, channels * write * write)
        self.features = 2 * channels * read * read  # that a reading has
        with torch.no_grad():
            for layer in (self.read_window, self.write_window):
                layer.bias[2:4] += torch.tensor([2 * math.log(sigma), math.log(spread)])
            self.write_window.bias[4] -= math.log(intensity)

    def heads(self) -> list[nn.Linear]:
        """The maps of h_dec whose outputs `look` takes."""
        return [self.read_window, self.write_window, self.patch]

    def look(self, read_window: Tensor, write_window: Tensor, patch: Tensor) -> Gaze:
        """What the heads' outputs say; the banks of reading and writing are computed together."""
        reading = window(read_window, self.n_read, self.height, self.width)
        writing = window(write_window, self.n_write, self.height, self.width)
        n = [self.n_read, self.n_write]
        sigma2 = torch.cat(
            [reading.sigma2.expand(-1, n[0]), writing.sigma2.expand(-1, n[1])], dim=1
        )
        read_y, write_y = filter_bank(
            torch.cat([reading.mu_y, writing.mu_y], 1), sigma2, self.height
        ).split(n, dim=1)
        read_x, write_x = filter_bank(
            torch.cat([reading.mu_x, writing.mu_x], 1), sigma2, self.width
        ).split(n, dim=1)
        return Gaze(
            patch.float().unflatten(1, (n[1], -1)),
            reading,
            writing,
            read_y,
            read_x,
            write_y,
            write_x,
        )

    def fold(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """The encoder's weight on a reading, and what of its gates depends on x alone (B, gates): nothing here."""
        return weight, None

    def glimpse(self, x: Tensor, canvas: Tensor, gaze: Gaze) -> Tensor:
        """The reading: x and the error image x - sigmoid(canvas), both (B, H, C, W), through one window (eq. 3, 4, 27)."""
        both = torch.cat([x, x - torch.sigmoid(canvas)], dim=2)
        return read(both, gaze.read_y, gaze.read_x, gaze.read.gamma)

    def paint(self, canvas: Tensor, gaze: Gaze) -> Tensor:
        """The canvas (B, H, C, W) after a step (eq. 8, 29)."""
        return write(canvas, gaze.patch, gaze.write_y, gaze.write_x, gaze.write.gamma)


class NoAttention(nn.Module):
    """Reading all of [x, x_hat], writing a linear map of h_dec (eq. 17, 18).

    Args:
        hidden: width of h_dec.
        channels, height, width: of the images.
    """

    def __init__(
        self, hidden: PositiveInt, channels: PositiveInt, height: PositiveInt, width: PositiveInt
    ) -> None:
        super().__init__()
        self.patch = nn.Linear(hidden, channels * height * width)
        self.features = 2 * channels * height * width

    def heads(self) -> list[nn.Linear]:
        """The maps of h_dec whose outputs `look` takes."""
        return [self.patch]

    def look(self, patch: Tensor) -> Tensor:
        """What the head's output says: itself, (B, H * C * W)."""
        return patch.float()

    def fold(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """W [x, x - sigmoid(c)] = (W1 + W2) x - W2 sigmoid(c): the first part is the same at every step, so it is done once."""
        on_x, on_error = weight.chunk(2, dim=1)
        return -on_error, nn.functional.linear(x.flatten(1).to(weight.dtype), on_x + on_error)

    def glimpse(self, x: Tensor, canvas: Tensor, gaze: Tensor) -> Tensor:
        """sigmoid(canvas), (B, H * C * W): the part of the reading that `fold` leaves."""
        return torch.sigmoid(canvas).flatten(1)

    def paint(self, canvas: Tensor, gaze: Tensor) -> Tensor:
        """The canvas (B, H, C, W) after a step (eq. 8, 18)."""
        return canvas + gaze.view_as(canvas)
