"""DRAW against the paper's equations in NumPy, one image and one step at a time."""

import numpy as np
import pytest
import torch

from src.losses import bernoulli_nll, gaussian_kl
from src.models.draw import DRAW
from src.nets.attention import Attention, NoAttention
from src.nets.draw import Draw
from src.nets.draw_reference import draw
from src.optim.schedules import constant
from tests.nets.test_attention import paper

SHAPES = {
    "attention": (1, (9, 7)),
    "color": (3, (6, 8)),
    "single filter": (1, (5, 5)),
    "none": (3, (5, 4)),
}


def make(kind="attention", steps=4, latent=3, seed=0, **kwargs):
    """A small DRAW whose every parameter is away from zero, so that nothing cancels."""
    torch.manual_seed(seed)
    channels, size = SHAPES[kind]

    def attention(*shape):
        if kind == "none":
            return NoAttention(*shape)
        return Attention(*shape, *((1, 1) if kind == "single filter" else (3, 4)))

    net = Draw(channels, size, attention, steps, latent, encoder_dim=6, decoder_dim=5, **kwargs)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def batch(net, n=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    height, channels, width = net.canvas.shape
    x = torch.rand(n, channels, height, width, generator=generator)
    return x, torch.randn(net.num_steps, n, net.latent_dim, generator=generator)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_cell(p, x, h, c):
    """PyTorch's order of gates: i, f, g, o."""
    gates = p["weight_ih"] @ x + p["bias_ih"] + p["weight_hh"] @ h + p["bias_hh"]
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def numbers(module):
    return {
        name: value.detach().double().numpy()
        for name, value in module.named_parameters(recurse=False)
    }


def affine(layer, h):
    return layer.weight.detach().double().numpy() @ h + layer.bias.detach().double().numpy()


def write_paper(attention, h_dec, shape):
    """write(h_dec): (C, H, W)."""
    height, channels, width = shape
    if isinstance(attention, NoAttention):
        return affine(attention.patch, h_dec).reshape(shape).transpose(1, 0, 2)
    f_y, f_x, gamma = paper(
        affine(attention.write_window, h_dec), attention.write_size, height, width
    )
    n = attention.write_size
    patch = affine(attention.patch, h_dec).reshape(n, channels, n)
    return np.stack([f_y.T @ patch[:, c] @ f_x / gamma for c in range(channels)])


def read_paper(attention, x, x_hat, h_dec, shape):
    """read(x, x_hat, h_dec), in the order of this project's weights: rows, [x, x_hat] and channels,
    columns."""
    height, _, width = shape
    both = np.concatenate([x, x_hat])  # (2C, H, W)
    if isinstance(attention, NoAttention):
        return np.concatenate([x.transpose(1, 0, 2).ravel(), x_hat.transpose(1, 0, 2).ravel()])
    f_y, f_x, gamma = paper(
        affine(attention.read_window, h_dec), attention.read_size, height, width
    )
    return np.stack([gamma * f_y @ image @ f_x.T for image in both], axis=1).ravel()


def draw_paper(net, x, eps):
    """Section 2, for one image x (C, H, W) and its noise (T, latent): last canvas (C, H, W), mu,
    log sigma (T, latent)."""
    cell, shape = net.cell, net.canvas.shape
    attention, enc, dec = cell.attention, numbers(cell.encoder), numbers(cell.decoder)
    state = {
        name: value.detach().double().numpy() for name, value in net.named_parameters(recurse=False)
    }
    h_enc, c_enc, h_dec, c_dec = (state[name] for name in ("h_enc", "c_enc", "h_dec", "c_dec"))
    canvas = state["canvas"].transpose(1, 0, 2)
    mus, log_sigmas = [], []
    for noise in eps:
        x_hat = x - sigmoid(canvas)
        r = read_paper(attention, x, x_hat, h_dec, shape)
        h_enc, c_enc = lstm_cell(enc, np.concatenate([r, h_dec]), h_enc, c_enc)
        mu, log_sigma = np.split(affine(cell.posterior, h_enc), 2)
        z = mu + np.exp(log_sigma) * noise
        h_dec, c_dec = lstm_cell(dec, z, h_dec, c_dec)
        canvas = canvas + write_paper(attention, h_dec, shape)
        mus.append(mu)
        log_sigmas.append(log_sigma)
    return canvas, np.stack(mus), np.stack(log_sigmas)


@pytest.mark.parametrize("kind", SHAPES)
def test_net_equals_the_paper_in_numpy(kind):
    """All equations of sections 2 and 3.

    Finds: an error image without the sigmoid, one noise for all steps, read and write sharing
    parameters, windows that are never used.
    """
    net = make(kind)
    x, eps = batch(net)
    paths = net(x, eps)
    for k in range(len(x)):
        canvas, mu, log_sigma = draw_paper(net, x[k].double().numpy(), eps[:, k].double().numpy())
        assert np.allclose(paths.logits[k].detach(), canvas, atol=1e-4)
        assert np.allclose(paths.mu[:, k].detach(), mu, atol=1e-4)
        assert np.allclose(paths.log_sigma[:, k].detach(), log_sigma, atol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_decoding_all_steps_at_once_equals_the_loop(kind):
    """`decode` runs z through the decoder alone, all T steps at once; every canvas equals a step at
    a time in NumPy."""
    net = make(kind)
    _, z = batch(net)
    canvases, _ = net.decode(z)
    dec, shape = numbers(net.cell.decoder), net.canvas.shape
    for k in range(z.shape[1]):
        h, c = (value.detach().double().numpy() for value in (net.h_dec, net.c_dec))
        canvas = net.canvas.detach().double().numpy().transpose(1, 0, 2)
        for t in range(net.num_steps):
            h, c = lstm_cell(dec, z[t, k].double().numpy(), h, c)
            canvas = canvas + write_paper(net.cell.attention, h, shape)
            assert np.allclose(canvases[t, k].detach(), canvas, atol=1e-4)


def module(net, **kwargs):
    return DRAW(net, torch.optim.Adam, constant, **kwargs)


@pytest.mark.parametrize("kind", SHAPES)
def test_every_parameter_gets_a_gradient(kind):
    """Slip: attention written and never called. Without gradients of a window, it is not used."""
    model = module(make(kind))
    model.training_step((batch(model.net)[0], torch.empty(0)), 0)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_initial_states_are_a_setting():
    net = make(learn_initial=False)
    states = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert states == {"h_enc", "c_enc", "h_dec", "c_dec", "canvas"}


def test_forget_bias_is_on_the_forget_gates():
    torch.manual_seed(0)
    plain = make()
    torch.manual_seed(0)
    biased = make(forget_bias=1.5)
    for part in ("encoder", "decoder"):
        difference = getattr(biased.cell, part).bias_hh - getattr(plain.cell, part).bias_hh
        i, f, g, o = difference.chunk(4)
        assert torch.allclose(f, torch.full_like(f, 1.5))
        assert max(part.abs().max().item() for part in (i, g, o)) < 1e-6


@pytest.mark.parametrize("kind", ["attention", "none"])
def test_sensitive_parts_stay_in_float32_under_bf16(kind):
    """Under autocast only matrix products are bf16; the bound changes by less than one percent."""
    torch.manual_seed(0)
    net = make(kind)
    x, eps = batch(net)
    exact = net(x, eps, keep=True)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(x, eps, keep=True)
    assert rounded.logits.dtype == rounded.mu.dtype == torch.float32
    state = rounded.states[-1]
    assert state.canvas.dtype == state.h_enc.dtype == state.c_dec.dtype == torch.float32
    if kind == "attention":
        assert {
            t.dtype for t in (state.gaze.read_y, state.gaze.write_x, state.gaze.write.sigma2)
        } == {torch.float32}
    assert state.to_encoder.dtype == torch.bfloat16
    bounds = [
        (bernoulli_nll(p.logits, x) + gaussian_kl(p.mu, p.log_sigma).sum(0)).mean().item()
        for p in (exact, rounded)
    ]
    assert bounds[1] == pytest.approx(bounds[0], rel=0.01)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_net_equals_the_readable_reference(kind):
    net = make(kind).requires_grad_(False)
    x, eps = batch(net)
    logits, kl = draw(net, x, eps)
    paths = net(x, eps)
    assert torch.allclose(paths.logits, logits, atol=1e-3)
    assert torch.allclose(gaussian_kl(paths.mu, paths.log_sigma).sum(0), kl, rtol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_gradients_equal_those_of_the_readable_reference(kind):
    """The network computes each by one product over all steps; the reference leaves them to
    autograd."""
    net = make(kind)
    x, eps = batch(net)
    logits, kl = draw(net, x, eps)
    (bernoulli_nll(logits, x).sum() + kl.sum()).backward()
    expected = {name: parameter.grad for name, parameter in net.named_parameters()}
    net.zero_grad()
    paths = net(x, eps)
    (bernoulli_nll(paths.logits, x).sum() + gaussian_kl(paths.mu, paths.log_sigma).sum()).backward()
    for name, parameter in net.named_parameters():
        assert torch.allclose(
            parameter.grad, expected[name], rtol=1e-3, atol=1e-3 * expected[name].abs().max().item()
        ), name
