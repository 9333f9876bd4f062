"""DRAW's net (Gregor 2015, section 2): an encoder and a decoder LSTM that paint an image in T steps."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from src.core.types import ImageSize, Interval, PositiveInt
from src.nets.cell import Cell, Gradients, State, Weights


class Paths(NamedTuple):
    """What the net made of a batch.

    Attributes:
        logits: (B, C, H, W) the last canvas, float32.
        mu, log_sigma: (T, B, latent) of q(z_t | x, z_<t), float32.
        states: after each step, index 0 the initial one; only where they were asked for.
    """

    logits: Tensor
    mu: Tensor
    log_sigma: Tensor
    states: tuple[State, ...]


class Draw(nn.Module):
    """The whole net.

    Args:
        channels: of the images.
        size: their height and width, or one number for both.
        attention: (hidden, channels, height, width) -> how it reads and writes, see `src.nets.attention`.
        steps: T.
        latent: width of z_t.
        encoder, decoder: widths of the LSTMs.
        learn_initial: learn the initial states and canvas (the paper's biases), else they stay zero.
        forget_bias: added to the forget gates' initial bias.
    """

    def __init__(
        self,
        channels: PositiveInt,
        size: ImageSize,
        attention: Callable[..., nn.Module],
        steps: PositiveInt,
        latent: PositiveInt,
        encoder: PositiveInt = 256,
        decoder: PositiveInt = 256,
        learn_initial: bool = True,
        forget_bias: Annotated[float, Interval(ge=-10, le=10)] = 0.0,
    ) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        self.steps, self.latent = steps, latent
        self.cell = Cell(encoder, decoder, latent, attention(decoder, channels, height, width))
        self.h_enc, self.c_enc = (
            nn.Parameter(torch.zeros(encoder), learn_initial) for _ in range(2)
        )
        self.h_dec, self.c_dec = (
            nn.Parameter(torch.zeros(decoder), learn_initial) for _ in range(2)
        )
        self.canvas = nn.Parameter(torch.zeros(height, channels, width), learn_initial)
        with torch.no_grad():
            for part in (self.cell.encoder, self.cell.decoder):
                part.bias_hh.chunk(4)[1].add_(forget_bias)

    def forward(self, x: Tensor, eps: Tensor, keep: bool = False) -> Paths:
        """Encode and decode.

        Args:
            x: (B, C, H, W) in [0, 1].
            eps: (T, B, latent) standard normal, all fresh.
            keep: hand back every step's state too.
        """
        dtype = (
            torch.get_autocast_dtype(x.device.type)
            if torch.is_autocast_enabled(x.device.type)
            else torch.float32
        )
        with torch.autocast(x.device.type, enabled=False):
            rows = x.float().transpose(1, 2).contiguous()  # (B, H, C, W)
            w, from_x = self.cell.weights(rows, dtype)
            inputs: list[Any] = [self.h_dec.expand(len(x), -1).to(dtype)]
            biases = Gradients.apply(inputs, self.cell.splits, len(eps), len(x), *w)
            fixed = Weights(*(value.detach() for value in w))
            state = self.start(inputs[0], fixed._replace(decoder_bias=biases[len(eps)]))
            inputs[0] = inputs[0].detach()
            states: tuple[State, ...] = (state,)
            posteriors = []
            for noise, posterior_bias, decoder_bias in zip(
                eps, biases, biases[len(eps) + 1 :], strict=False
            ):
                step = fixed._replace(posterior_bias=posterior_bias, decoder_bias=decoder_bias)
                state, q, multiplied = self.cell(rows, from_x, noise, state, step)
                posteriors.append(q)
                inputs.append(multiplied)
                states = (*states, state) if keep else ()
            mu, log_sigma = torch.stack(posteriors).chunk(2, dim=2)
        return Paths(state.canvas.transpose(1, 2), mu, log_sigma, states)

    def start(self, h_dec: Tensor, w: Weights) -> State:
        """The initial state, `h_dec` (B, dec) among it."""
        n = len(h_dec)
        h_enc, c_enc, c_dec = (
            state.expand(n, -1) for state in (self.h_enc, self.c_enc, self.c_dec)
        )
        to_decoder, to_encoder, gaze = self.cell.look(h_dec, w)
        return State(
            h_enc, c_enc, c_dec, self.canvas.repeat(n, 1, 1, 1), to_encoder, to_decoder, gaze
        )

    def decode(self, z: Tensor) -> tuple[Tensor, Any]:
        """The canvases (T, B, C, H, W), logits, that latents z (T, B, latent) paint, and the gaze of all steps (T * B, ...).

        No canvas feeds back into the decoder, so it runs over all T at once: one product for z, one LSTM call, one for the
        heads, one writing, one cumulative sum (section 2.3).
        """
        steps, n, _ = z.shape
        decoder = self.cell.decoder
        with torch.autocast(z.device.type, enabled=False):
            parameters = [decoder.weight_ih, decoder.weight_hh, decoder.bias_ih, decoder.bias_hh]
            start = [state.repeat(1, n, 1) for state in (self.h_dec, self.c_dec)]
            h_dec, _, _ = torch.lstm(
                z, start, parameters, True, 1, 0.0, self.training, False, False
            )
            attention = self.cell.attention
            gaze = attention.look(*(head(h_dec.flatten(0, 1)) for head in attention.heads()))
            blank = torch.zeros(steps * n, *self.canvas.shape, device=z.device)
            written = attention.paint(blank, gaze).unflatten(0, (steps, n))
            canvases = self.canvas + written.cumsum(0)
        return canvases.transpose(2, 3), gaze
