"""One fast step of DRAW (Gregor 2015, section 2.1), and the weight gradients over all steps.

`src.nets.draw_reference` has the same equations in the order of the paper; read it first. This file
merges matrices that share an input, computes once what does not change between steps, and delays
the weight gradients until the last step is done (see `Gradients`). Matrix products run in the dtype
given to `Cell.weights`; windows, filters, canvas, LSTM states and log sigma are float32.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

ALIGNMENT = 8  # matrix units of GPUs need rows of a multiple of 16 bytes


class State(NamedTuple):
    """The state after a step, which the next step starts from.

    Attributes:
        h_enc, c_enc, c_dec: (B, encoder_dim or decoder_dim) float32.
        canvas: (B, H, C, W) float32, logits.
        to_encoder, to_decoder: (B, 4 * dim) contribution of h_dec, bias included, to the gates of
            each LSTM at the next step.
        gaze: what the decoder writes and where it looks, see `src.nets.attention`; gradients flow
            through what the next step reads with.
    """

    h_enc: Tensor
    c_enc: Tensor
    c_dec: Tensor
    canvas: Tensor
    to_encoder: Tensor
    to_decoder: Tensor
    gaze: Any


class Weights(NamedTuple):
    """The matrices of the cell, made once per batch; matrices with a common input are merged.

    Attributes:
        encoder: (4 * encoder_dim, reading + encoder_dim) applied to [r_t, h_enc].
        posterior, posterior_bias: (2 * latent_dim, encoder_dim), h_enc to mu and log sigma.
        latent: (4 * decoder_dim, latent_dim) applied to z.
        decoder, decoder_bias: (4 * decoder_dim + 4 * encoder_dim + heads + padding, decoder_dim),
            h_dec to the gates of both LSTMs and to the attention heads.
    """

    encoder: Tensor
    posterior: Tensor
    posterior_bias: Tensor
    latent: Tensor
    decoder: Tensor
    decoder_bias: Tensor


class Inputs(NamedTuple):
    """The inputs of a step's matrix products, detached: [r, h_enc before], h_enc, z, h_dec."""

    encoder: Tensor
    posterior: Tensor
    latent: Tensor
    decoder: Tensor


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the new h and c (B, dim) of an LSTM from its gates i, f, g, o (B, 4 * dim)."""
    i, f, g, o = gates.float().chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * tanh(g)
    return torch.sigmoid(o) * tanh(c), c


def tanh(x: Tensor) -> Tensor:
    """Compute tanh by a sigmoid: ten times as fast on CPU, with an absolute error of 1e-7."""
    return 2 * torch.sigmoid(2 * x) - 1


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x weight^T + bias, where each row of x has its own bias."""
    if x.is_cuda:  # addmm would copy the bias; torch.compile fuses the sum with what follows
        return torch.mm(x, weight.t()) + bias
    return torch.addmm(bias, x, weight.t())


class Cell(nn.Module):
    """One step of DRAW: `weights` prepares the matrices of a batch, `forward` does a step.

    Args:
        encoder_dim, decoder_dim: widths of the LSTMs.
        latent_dim: length of z_t.
        attention: see `src.nets.attention`.
    """

    def __init__(self, encoder_dim: int, decoder_dim: int, latent_dim: int, attention: Any) -> None:
        super().__init__()
        self.attention = attention
        self.encoder = nn.LSTMCell(attention.features + decoder_dim, encoder_dim)
        self.decoder = nn.LSTMCell(latent_dim, decoder_dim)
        self.posterior = nn.Linear(encoder_dim, 2 * latent_dim)
        heads = [head.out_features for head in attention.heads()]
        self.splits = [4 * decoder_dim, 4 * encoder_dim, *heads]
        self.splits.append(-sum(self.splits) % ALIGNMENT)

    def weights(self, x: Tensor, dtype: torch.dtype) -> tuple[Weights, Tensor | None]:
        """Return the merged matrices, and the part of the encoder's gates that depends on x alone.

        That part is (B, 4 * encoder_dim), or None if there is none.

        Args:
            x: (B, H, C, W).
            dtype: precision of the matrix products.
        """
        encoder, decoder, heads = self.encoder, self.decoder, self.attention.heads()
        on_reading, on_decoder = encoder.weight_ih.split(
            [self.attention.features, decoder.hidden_size], dim=1
        )
        on_reading, from_x = self.attention.fold(x, on_reading.to(dtype))
        padding = encoder.weight_hh.new_zeros(self.splits[-1], decoder.hidden_size)
        on_h_dec = [decoder.weight_hh, on_decoder, *(head.weight for head in heads), padding]
        biases = [
            decoder.bias_ih + decoder.bias_hh,
            encoder.bias_ih + encoder.bias_hh,
            *(head.bias for head in heads),
            padding[:, 0],
        ]
        merged = Weights(
            encoder=torch.cat([on_reading, encoder.weight_hh.to(dtype)], dim=1),
            posterior=self.posterior.weight.to(dtype),
            posterior_bias=self.posterior.bias.to(dtype),
            latent=decoder.weight_ih.to(dtype),
            decoder=torch.cat(on_h_dec).to(dtype),
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
            eps: (B, latent_dim) standard normal.
            state: after the previous step.
            w: see `weights`; its biases are expanded to (B, out).

        Returns:
            The new state, [mu, log sigma] of this step's posterior (B, 2 * latent_dim), and the
            inputs of the matrix products.
        """
        dtype = w.encoder.dtype
        r = self.attention.glimpse(x, state.canvas, state.gaze)
        reading = torch.cat([r, state.h_enc], dim=1).to(dtype)
        given = state.to_encoder if from_x is None else state.to_encoder + from_x
        h_enc, c_enc = lstm(linear(reading, w.encoder, given), state.c_enc)
        encoded = h_enc.to(dtype)
        q = linear(encoded, w.posterior, w.posterior_bias).float()
        mu, log_sigma = q.chunk(2, dim=1)
        z = (mu + log_sigma.exp() * eps).to(dtype)
        h_dec, c_dec = lstm(linear(z, w.latent, state.to_decoder), state.c_dec)
        decoded = h_dec.to(dtype)
        to_decoder, to_encoder, gaze = self.look(decoded, w)
        canvas = self.attention.paint(state.canvas, gaze)
        gaze = self.attention.for_reading(gaze)
        inputs = Inputs(reading.detach(), encoded.detach(), z.detach(), decoded.detach())
        return State(h_enc, c_enc, c_dec, canvas, to_encoder, to_decoder, gaze), q, inputs

    def look(self, h_dec: Tensor, w: Weights) -> tuple[Tensor, Tensor, Any]:
        """Apply all linear maps of h_dec (B, decoder_dim) in one product: gates and gaze."""
        outputs = linear(h_dec, w.decoder, w.decoder_bias)
        to_decoder, to_encoder, *heads, _ = outputs.split(self.splits, dim=1)
        return to_decoder, to_encoder, self.attention.look(*heads)


class Gradients(torch.autograd.Function):
    """Compute each weight gradient with one matmul over all T steps instead of T small ones.

    For y_t = W x_t + b the weight gradient is dW = sum over t of dy_t x_t^T, and dy_t is also the
    gradient of the bias at step t. So the loop multiplies with a detached W, and gets one copy of b
    per step and image from `forward`. `backward` runs when the gradients of all copies are known:
    stacked over the steps they are [dy_1 ... dy_T], and one product with [x_1 ... x_T] gives dW. In
    bf16 this also sums over the steps in float32.

    The encoder's gates and the latents' gates have no bias of their own in the loop: they add
    `to_encoder` or `to_decoder`, parts of the decoder's product of the step before. The gradients
    of those parts are the gradients of the gates.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: list[Inputs], splits: list[int], steps: int, rows: int, *w: Tensor
    ) -> tuple[Tensor, ...]:
        """Return `steps` copies of the posterior bias and `steps + 1` of the decoder bias.

        Each is (rows, out).

        Args:
            inputs: the caller fills it while the loop runs: h_dec of the start, then an `Inputs`
                per step.
            splits: see `Cell.splits`.
            w: the fields of `Weights`.
        """
        ctx.inputs, ctx.splits, ctx.steps = inputs, splits, steps
        weights = Weights(*w)
        posterior = weights.posterior_bias.expand(rows, -1)
        decoder = weights.decoder_bias.expand(rows, -1)
        return tuple(posterior.view_as(posterior) for _ in range(steps)) + tuple(
            decoder.view_as(decoder) for _ in range(steps + 1)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_posterior = torch.cat(gradients[: ctx.steps])  # (T * B, 2 * latent_dim)
        d_decoder = torch.cat(gradients[ctx.steps :])  # ((T + 1) * B, out)
        start, *steps = ctx.inputs
        reading, h_enc, z, h_dec = (torch.cat(parts) for parts in zip(*steps, strict=True))
        dec_gates, enc_gates, *_ = d_decoder[: len(reading)].split(ctx.splits, dim=1)
        d_weights = Weights(
            encoder=enc_gates.t() @ reading,
            posterior=d_posterior.t() @ h_enc,
            posterior_bias=d_posterior.sum(0),
            latent=dec_gates.t() @ z,
            decoder=d_decoder.t() @ torch.cat([start, h_dec]),
            decoder_bias=d_decoder.sum(0),
        )
        ctx.inputs.clear()
        return None, None, None, None, *d_weights
