"""Directions in latent space."""

import numpy as np
import torch

from src.nets.latents import principal_directions, straight_walks


def test_walks_are_straight_and_evenly_spaced():
    start, end = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    walks = straight_walks(start, end, 5).reshape(3, 5, 4)
    expected = np.linspace(start.numpy(), end.numpy(), 5, axis=1)
    assert np.allclose(walks.numpy(), expected, atol=1e-6)


def test_directions_of_a_linear_generator_are_its_singular_vectors():
    noise = np.random.default_rng(0)
    z = noise.standard_normal((600, 6))
    left, right = (np.linalg.qr(noise.standard_normal((n, 6)))[0] for n in (40, 6))
    strengths = np.array([9.0, 5.0, 3.0, 1.0, 0.5, 0.1])
    images = 0.5 + z @ (right * strengths) @ left.T
    found = principal_directions(torch.tensor(z), torch.tensor(images), 3).numpy()
    assert np.abs(np.linalg.norm(found, axis=1) - z.std()).max() < 1e-3
    cosines = found / np.linalg.norm(found, axis=1, keepdims=True) @ right[:, :3]
    assert np.abs(np.abs(cosines) - np.eye(3)).max() < 0.15
    assert (found[np.arange(3), np.abs(found).argmax(1)] > 0).all()


def test_there_are_no_more_directions_than_dimensions():
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert principal_directions(z, z.repeat(1, 5), 8).shape == (2, 2)
