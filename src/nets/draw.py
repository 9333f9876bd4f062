"""The network of DRAW (Gregor 2015, section 2): two LSTMs that paint an image in T steps.

`src.nets.draw_reference` computes the same in 40 lines that follow the paper; read it first. This
one is more than twice as fast.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from src.core.types import ImageSize, Interval, PositiveInt, height_width
from src.nets.cell import Cell, Gradients, State, Weights


class DrawOutput(NamedTuple):
    """The result of encoding and decoding a batch.

    Attributes:
        logits: (B, C, H, W) the last canvas, float32.
        mu, log_sigma: (T, B, latent_dim) of q(z_t | x, z_<t), float32.
        states: after each step, the initial state first; empty unless asked for.
    """

    logits: Tensor
    mu: Tensor
    log_sigma: Tensor
    states: tuple[State, ...]


class Draw(nn.Module):
    """The encoder, the decoder and their attention.

    Args:
        channels: number of image channels.
        size: height and width of the images, or one number for both.
        attention: (hidden_dim, channels, height, width) -> how it reads and writes, see
            `src.nets.attention`.
        num_steps: T.
        latent_dim: length of z_t.
        encoder_dim, decoder_dim: widths of the LSTMs.
        learn_initial: learn the initial states and canvas (the paper's biases). False: zeros.
        forget_bias: added to the forget gates' initial bias.
    """

    def __init__(
        self,
        channels: PositiveInt,
        size: ImageSize,
        attention: Callable[..., nn.Module],
        num_steps: PositiveInt,
        latent_dim: PositiveInt,
        encoder_dim: PositiveInt = 256,
        decoder_dim: PositiveInt = 256,
        learn_initial: bool = True,
        forget_bias: Annotated[float, Interval(ge=-10, le=10)] = 0.0,
    ) -> None:
        super().__init__()
        height, width = height_width(size)
        self.num_steps, self.latent_dim = num_steps, latent_dim
        self.cell = Cell(
            encoder_dim, decoder_dim, latent_dim, attention(decoder_dim, channels, height, width)
        )
        self.h_enc, self.c_enc = (
            nn.Parameter(torch.zeros(encoder_dim), learn_initial) for _ in range(2)
        )
        self.h_dec, self.c_dec = (
            nn.Parameter(torch.zeros(decoder_dim), learn_initial) for _ in range(2)
        )
        self.canvas = nn.Parameter(torch.zeros(height, channels, width), learn_initial)
        with torch.no_grad():
            for lstm in (self.cell.encoder, self.cell.decoder):
                lstm.bias_hh.chunk(4)[1].add_(forget_bias)

    def forward(self, x: Tensor, eps: Tensor, keep: bool = False) -> DrawOutput:
        """Encode and decode.

        Args:
            x: (B, C, H, W) in [0, 1].
            eps: (T, B, latent_dim) standard normal, independent for every step.
            keep: return the state after every step too.
        """
        dtype = (
            torch.get_autocast_dtype(x.device.type)
            if torch.is_autocast_enabled(x.device.type)
            else torch.float32
        )
        with torch.autocast(x.device.type, enabled=False):
            rows = x.float().transpose(1, 2).contiguous()  # (B, H, C, W)
            w, from_x = self.cell.weights(rows, dtype)
            # the loop uses detached weights; their gradients come from the biases (see Gradients)
            inputs: list[Any] = [self.h_dec.expand(len(x), -1).to(dtype)]
            biases = Gradients.apply(inputs, self.cell.splits, len(eps), len(x), *w)
            fixed = Weights(*(value.detach() for value in w))
            posterior_biases, decoder_biases = biases[: len(eps)], biases[len(eps) :]
            state = self.start(inputs[0], fixed._replace(decoder_bias=decoder_biases[0]))
            inputs[0] = inputs[0].detach()
            states: tuple[State, ...] = (state,)
            posteriors = []
            for noise, posterior_bias, decoder_bias in zip(
                eps, posterior_biases, decoder_biases[1:], strict=True
            ):
                step = fixed._replace(posterior_bias=posterior_bias, decoder_bias=decoder_bias)
                state, posterior, step_inputs = self.cell(rows, from_x, noise, state, step)
                posteriors.append(posterior)
                inputs.append(step_inputs)
                states = (*states, state) if keep else ()
            mu, log_sigma = torch.stack(posteriors).chunk(2, dim=2)
        return DrawOutput(state.canvas.transpose(1, 2), mu, log_sigma, states)

    def start(self, h_dec: Tensor, w: Weights) -> State:
        """Return the initial state, given the initial `h_dec` (B, decoder_dim)."""
        n = len(h_dec)
        h_enc, c_enc, c_dec = (
            state.expand(n, -1) for state in (self.h_enc, self.c_enc, self.c_dec)
        )
        to_decoder, to_encoder, gaze = self.cell.look(h_dec, w)
        canvas, gaze = self.canvas.repeat(n, 1, 1, 1), self.cell.attention.for_reading(gaze)
        return State(h_enc, c_enc, c_dec, canvas, to_encoder, to_decoder, gaze)

    def decode(self, z: Tensor) -> tuple[Tensor, Any]:
        """Return the canvases of z (T, B, latent_dim), and the gaze of all steps (T * B, ...).

        The canvases are logits, (T, B, C, H, W). Without an encoder no canvas feeds back into the
        decoder (section 2.3), so all T steps run at once: one product for z, one LSTM call, one
        product for the heads, one write, one cumulative sum.
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
