"""One step of DRAW (Gregor 2015, section 2.1), and the gradients of its matrices over all steps.

Matrix products run in the type that `Cell.weights` is asked for; windows, filters, canvas, LSTM states, log sigma in float32.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class State(NamedTuple):
    """What one step hands to the next.

    Attributes:
        h_enc, c_enc, c_dec: (B, width) float32.
        canvas: (B, H, C, W) float32, logits.
        to_encoder, to_decoder: (B, 4 * width) what h_dec, with the bias, adds to both LSTMs' gates at the next step.
        gaze: what the decoder writes and where it looks, see `src.nets.attention`.
    """

    h_enc: Tensor
    c_enc: Tensor
    c_dec: Tensor
    canvas: Tensor
    to_encoder: Tensor
    to_decoder: Tensor
    gaze: Any


class Weights(NamedTuple):
    """The cell's matrices as the loop multiplies them: those that share an input in one, in the loop's type, made once a batch.

    Attributes:
        encoder: (4 * enc, reading + enc) on [r_t, h_enc].
        posterior, posterior_bias: (2 * latent, enc) on h_enc, to mu and log sigma.
        latent: (4 * dec, latent) on z.
        decoder, decoder_bias: (4 * dec + 4 * enc + heads, dec) on h_dec.
    """

    encoder: Tensor
    posterior: Tensor
    posterior_bias: Tensor
    latent: Tensor
    decoder: Tensor
    decoder_bias: Tensor


class Inputs(NamedTuple):
    """What a step's products multiplied, in the loop's type: [r, h_enc] of the step before, h_enc, z, h_dec; no gradients."""

    encoder: Tensor
    posterior: Tensor
    latent: Tensor
    decoder: Tensor


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM's pointwise part: gates (B, 4 * width) in PyTorch's order i, f, g, o, and c -> new h and c (B, width)."""
    i, f, g, o = gates.float().chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * tanh(g)
    return torch.sigmoid(o) * tanh(c), c


def tanh(x: Tensor) -> Tensor:
    """tanh to float32's last bits by a sigmoid, which on CPU is ten times as fast."""
    return 2 * torch.sigmoid(2 * x) - 1


class Cell(nn.Module):
    """One step of DRAW. `weights` prepares a batch's matrices, `forward` is a step with reading, `decode` its second half."""

    def __init__(self, encoder: int, decoder: int, latent: int, attention: Any) -> None:
        super().__init__()
        self.attention = attention
        self.encoder = nn.LSTMCell(attention.features + decoder, encoder)
        self.decoder = nn.LSTMCell(latent, decoder)
        self.posterior = nn.Linear(encoder, 2 * latent)
        self.splits = [4 * decoder, 4 * encoder, *(head.out_features for head in attention.heads())]

    def weights(self, x: Tensor, dtype: torch.dtype) -> tuple[Weights, Tensor | None]:
        """The merged matrices, and the part of the encoder's gates that x alone decides (B, 4 * enc), where there is one.

        Args:
            x: (B, H, C, W).
            dtype: of the matrix products.
        """
        encoder, decoder, heads = self.encoder, self.decoder, self.attention.heads()
        on_reading, on_decoder = encoder.weight_ih.split(
            [self.attention.features, decoder.hidden_size], dim=1
        )
        on_reading, from_x = self.attention.fold(x, on_reading.to(dtype))
        of_decoder = [decoder.weight_hh, on_decoder, *(head.weight for head in heads)]
        biases = [
            decoder.bias_ih + decoder.bias_hh,
            encoder.bias_ih + encoder.bias_hh,
            *(head.bias for head in heads),
        ]
        merged = Weights(
            encoder=torch.cat([on_reading, encoder.weight_hh.to(dtype)], dim=1),
            posterior=self.posterior.weight.to(dtype),
            posterior_bias=self.posterior.bias.to(dtype),
            latent=decoder.weight_ih.to(dtype),
            decoder=torch.cat(of_decoder).to(dtype),
            decoder_bias=torch.cat(biases).to(dtype),
        )
        return merged, from_x

    def forward(
        self, x: Tensor, from_x: Tensor | None, eps: Tensor, state: State, w: Weights
    ) -> tuple[State, Tensor, Inputs]:
        """Read, encode, draw z, decode, write (eq. 3 to 8).

        Args:
            x: (B, H, C, W) in [0, 1].
            from_x: see `weights`.
            eps: (B, latent) standard normal.
            state: of the step before.
            w: see `weights`, its biases (B, out).

        Returns:
            The new state, [mu, log sigma] of this step's posterior (B, 2 * latent), and what was multiplied.
        """
        dtype = w.encoder.dtype
        r = self.attention.glimpse(x, state.canvas, state.gaze)
        reading = torch.cat([r, state.h_enc], dim=1).to(dtype)
        given = state.to_encoder if from_x is None else state.to_encoder + from_x
        h_enc, c_enc = lstm(torch.addmm(given, reading, w.encoder.t()), state.c_enc)
        encoded = h_enc.to(dtype)
        q = torch.addmm(w.posterior_bias, encoded, w.posterior.t()).float()
        mu, log_sigma = q.chunk(2, dim=1)
        z = (mu + log_sigma.exp() * eps).to(dtype)
        h_dec, c_dec = lstm(torch.addmm(state.to_decoder, z, w.latent.t()), state.c_dec)
        decoded = h_dec.to(dtype)
        to_decoder, to_encoder, gaze = self.look(decoded, w)
        canvas = self.attention.paint(state.canvas, gaze)
        inputs = Inputs(reading.detach(), encoded.detach(), z.detach(), decoded.detach())
        return State(h_enc, c_enc, c_dec, canvas, to_encoder, to_decoder, gaze), q, inputs

    def look(self, h_dec: Tensor, w: Weights) -> tuple[Tensor, Tensor, Any]:
        """All that h_dec (B, dec) says, by one matrix product: gates to the decoder and to the encoder, and the gaze."""
        said = torch.addmm(w.decoder_bias, h_dec, w.decoder.t())
        to_decoder, to_encoder, *heads = said.split(self.splits, dim=1)
        return to_decoder, to_encoder, self.attention.look(*heads)


class Gradients(torch.autograd.Function):
    """The gradients of all matrices, each by one product over all steps when the backward pass has been through them, not by
    one a step; in bf16 that also adds them up in float32, not in bf16.

    `forward` hands out the biases, for each step a row an image: those of the posterior first, then those of the decoder.
    Whatever the loop's products make of their weights they make of detached ones; the gradient of a product's output comes
    back by the bias that was added to it. The gates take theirs from the decoder's product of the step before, so the same
    gradients serve the encoder's and the latents' weights.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: list[Inputs], splits: list[int], steps: int, rows: int, *w: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.inputs, ctx.splits, ctx.steps = inputs, splits, steps
        weights = Weights(*w)
        of_posterior, of_decoder = (
            weights.posterior_bias.expand(rows, -1),
            weights.decoder_bias.expand(rows, -1),
        )
        return tuple(of_posterior.view_as(of_posterior) for _ in range(steps)) + tuple(
            of_decoder.view_as(of_decoder) for _ in range(steps + 1)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_posterior, of_decoder = (
            torch.cat(gradients[: ctx.steps]),
            torch.cat(gradients[ctx.steps :]),
        )
        start, *taken = ctx.inputs
        reading, encoded, z, decoded = (torch.cat(parts) for parts in zip(*taken, strict=True))
        dec_gates, enc_gates, *_ = of_decoder[: len(reading)].split(ctx.splits, dim=1)
        of_weights = Weights(
            encoder=enc_gates.t() @ reading,
            posterior=of_posterior.t() @ encoded,
            posterior_bias=of_posterior.sum(0),
            latent=dec_gates.t() @ z,
            decoder=of_decoder.t() @ torch.cat([start, decoded]),
            decoder_bias=of_decoder.sum(0),
        )
        ctx.inputs.clear()
        return None, None, None, None, *of_weights
