"""DRAW as the paper writes it (Gregor 2015, sections 2 and 3). Read this first.

`src.nets.draw` computes the same, more than twice as fast, and is tested against it. This one is
also the plain loop that `src.bench` times ours against.
"""

from typing import Any

import torch
from torch import Tensor, exp, sigmoid

from src.nets.draw import Draw


def draw(net: Draw, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Encode and decode images with the weights of `net`.

    Args:
        x: (B, C, H, W) in [0, 1].
        eps: (T, B, latent_dim) standard normal.

    Returns:
        c_T, the last canvas as logits (B, C, H, W), and L_z of each image in nats (B,).
    """
    cell, attention = net.cell, net.cell.attention
    h_enc, c_enc, h_dec, c_dec = (
        state.repeat(len(x), 1) for state in (net.h_enc, net.c_enc, net.h_dec, net.c_dec)
    )
    canvas = net.canvas.transpose(0, 1).repeat(len(x), 1, 1, 1)  # (B, C, H, W)
    kl = x.new_zeros(len(x))
    for eps_t in eps:
        x_hat = x - sigmoid(canvas)  # eq. 3
        r = read(attention, x, x_hat, h_dec)  # eq. 4
        h_enc, c_enc = cell.encoder(torch.cat([r, h_dec], 1), (h_enc, c_enc))  # eq. 5
        mu, log_sigma = cell.posterior(h_enc).chunk(2, dim=1)  # eq. 1, 2
        z = mu + exp(log_sigma) * eps_t  # eq. 6: a sample of q(z_t | h_enc)
        h_dec, c_dec = cell.decoder(z, (h_dec, c_dec))  # eq. 7
        canvas = canvas + write(attention, h_dec, canvas.shape)  # eq. 8
        kl = kl + 0.5 * (mu**2 + exp(2 * log_sigma) - 2 * log_sigma - 1).sum(1)  # eq. 11
    return canvas, kl


def read(attention: Any, x: Tensor, x_hat: Tensor, h_dec: Tensor) -> Tensor:
    """Return what the encoder sees, (B, features), rows first as the weights of the net expect."""
    if not hasattr(attention, "read_window"):
        return torch.cat([image.transpose(1, 2).flatten(1) for image in (x, x_hat)], 1)  # eq. 17
    n, (height, width) = attention.read_size, x.shape[2:]
    f_y, f_x, gamma = filters(attention.read_window(h_dec), n, height, width)
    images = torch.cat([x, x_hat], 1)  # (B, 2C, H, W)
    return (gamma * (f_y @ images @ f_x.transpose(2, 3))).transpose(1, 2).flatten(1)  # eq. 27


def write(attention: Any, h_dec: Tensor, shape: torch.Size) -> Tensor:
    """Return what the decoder adds to a canvas of `shape` (B, C, H, W)."""
    b, channels, height, width = shape
    patch = attention.patch(h_dec)
    if not hasattr(attention, "write_window"):
        return patch.view(b, height, channels, width).transpose(1, 2)  # eq. 18
    n = attention.write_size
    w = patch.view(b, n, channels, n).transpose(1, 2)  # (B, C, N, N)
    f_y, f_x, gamma = filters(attention.write_window(h_dec), n, height, width)
    return f_y.transpose(2, 3) @ w @ f_x / gamma  # eq. 29


def filters(parameters: Tensor, n: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return F_Y (B, 1, N, H), F_X (B, 1, N, W) and gamma (B, 1, 1, 1) of parameters (B, 5)."""
    gx, gy, log_sigma2, log_delta, log_gamma = parameters.split(1, dim=1)  # eq. 21
    delta = (max(height, width) - 1) / max(n - 1, 1) * exp(log_delta)  # eq. 24
    banks = []
    for g, pixels in ((gy, height), (gx, width)):
        center = (pixels + 1) / 2 * (g + 1)  # eq. 22, 23
        i = torch.arange(1, n + 1, device=g.device)
        a = torch.arange(1, pixels + 1, device=g.device)
        mu = center + (i - n / 2 - 0.5) * delta  # eq. 19, 20
        bank = exp(-((a - mu.unsqueeze(2)) ** 2) / (2 * exp(log_sigma2).unsqueeze(2)))
        bank = bank / (bank.sum(2, keepdim=True) + 1e-12)  # eq. 25, 26
        banks.append(bank.unsqueeze(1))
    return banks[0], banks[1], exp(log_gamma).view(-1, 1, 1, 1)
