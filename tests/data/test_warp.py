"""Warps against numpy.pad, NumPy's flips and turns, and SciPy, with all five borders."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from src.core.randomness import CounterRNG
from src.data.transforms import geometric
from src.data.transforms.augment import Augment
from src.data.transforms.warp import BORDERS, INTERPOLATIONS, warp

SCIPY = {
    "constant": "grid-constant",
    "edge": "nearest",
    "reflect": "mirror",
    "symmetric": "reflect",
    "wrap": "grid-wrap",
}
SIZES = [(1, 1), (1, 5), (2, 3), (6, 9), (32, 32), (33, 31)]
FILL = 0.3


def images(height, width):
    return torch.rand(3, 2, height, width, generator=torch.Generator().manual_seed(0))


def maps(*rows):
    return torch.tensor([rows] * 3, dtype=torch.float64)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", SIZES)
def test_whole_pixel_translations_equal_numpy_pad(size, border, interpolation):
    x, (height, width) = images(*size), size
    for dx, dy in ((0, 0), (1, 0), (0, -1), (-3, 2), (17, -40), (-100, 100)):
        made = warp(x, maps([1, 0, dx], [0, 1, dy]), border, interpolation, FILL)
        extra = {"constant_values": np.float32(FILL)} if border == "constant" else {}
        far = max(abs(dx), abs(dy))
        padded = np.pad(x.numpy(), [(0, 0), (0, 0), (far, far), (far, far)], border, **extra)
        assert np.array_equal(
            made.numpy(), padded[:, :, far + dy : far + dy + height, far + dx : far + dx + width]
        )


def test_borders_follow_their_specification():
    """The image [1 2 3 4], moved three pixels to the left."""
    row = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 1, 4)
    left = {
        border: warp(row, maps([1, 0, -4], [0, 1, 0])[:1], border).flatten()[1:].tolist()
        for border in BORDERS
    }
    assert left == {
        "constant": [0, 0, 0], "edge": [1, 1, 1], "reflect": [4, 3, 2], "symmetric": [3, 2, 1],
        "wrap": [2, 3, 4]
    }  # fmt: skip


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("border", BORDERS)
def test_warp_equals_scipy(border, interpolation):
    draw = torch.Generator().manual_seed(1)
    for height, width in SIZES:
        x = images(height, width)
        affine = torch.randn(3, 2, 3, generator=draw, dtype=torch.float64)
        affine[:, :, 2] *= width  # far beyond the border too
        made = warp(x, affine, border, interpolation, FILL).double().numpy()
        for image, one, result in zip(x.double().numpy(), affine.numpy(), made, strict=True):
            matrix, middle = one[::-1, 1::-1], (np.array([height, width]) - 1) / 2
            places = np.einsum(
                "ij,jhw->ihw", matrix, np.mgrid[:height, :width] - middle[:, None, None]
            )
            places += (middle + one[::-1, 2])[:, None, None]
            if interpolation == "nearest":
                places = np.floor(places + 0.5)
            expected = [
                ndimage.map_coordinates(channel, places, order=1, mode=SCIPY[border], cval=FILL)
                for channel in image
            ]
            assert (
                np.abs(result - expected).max() < 2e-5
            )  # places are rounded to 1 / 65536 of a pixel


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("border", BORDERS)
def test_flips_and_quarter_turns_equal_numpy_bit_for_bit(border, interpolation):
    for size in SIZES:
        x = images(*size)
        for rows, axes in (
            (([-1, 0, 0], [0, 1, 0]), 3),
            (([1, 0, 0], [0, -1, 0]), 2),
            (([1, 0, 0], [0, 1, 0]), ()),
        ):
            assert np.array_equal(
                warp(x, maps(*rows), border, interpolation).numpy(), np.flip(x.numpy(), axes)
            )
    x = images(16, 16)
    for turns in range(-3, 5):
        cos, sin = np.cos(turns * np.pi / 2), np.sin(turns * np.pi / 2)  # 6e-17, not 0
        made = warp(x, maps([cos, -sin, 0], [sin, cos, 0]), border, interpolation)
        assert np.array_equal(made.numpy(), np.rot90(x.numpy(), turns, (2, 3)))


def test_border_table():
    """The largest difference to numpy.pad, numpy.flip or SciPy, for each transform and border."""
    x = images(24, 32)
    draws = CounterRNG(torch.arange(3), 0)
    cases = {
        "flip": geometric.Flip(1.0),
        "rotation": geometric.Rotation(90),
        "scale in": geometric.Scale(1.5, 3),
        "scale out": geometric.Scale(0.2, 0.6),
        "translation": geometric.Translation(50, whole_pixels=True),
        "crop": geometric.Crop(0.2, 1.5),
    }
    print("\n" + " ".join(f"{name:>11}" for name in ("", *cases)))
    for border in BORDERS:
        worst = {}
        for name, transform in cases.items():
            values = transform.sample(draws, (24, 32))
            made = (
                Augment({"one": transform}, border, fill=FILL)
                .apply(x, {"one": values}, draws)
                .double()
                .numpy()
            )
            worst[name] = np.abs(
                made - expected(name, x.double().numpy(), transform, values, border)
            ).max()
        print(f"{border:>11} " + " ".join(f"{value:11.1e}" for value in worst.values()))
        exact = {"flip", "translation"}
        assert all(
            worst[name] == 0 if name in exact and border != "constant" else worst[name] < 2e-5
            for name in cases
        )


def expected(name, x, transform, values, border):
    if name == "flip":
        return x[..., ::-1]
    if name == "translation":
        extra = {"constant_values": FILL} if border == "constant" else {}
        padded = np.pad(x, [(0, 0), (0, 0), (50, 50), (50, 50)], border, **extra)
        corners = [
            (50 - int(dy), 50 - int(dx)) for dx, dy in zip(values["x"], values["y"], strict=True)
        ]
        return np.stack(
            [
                image[:, top : top + 24, left : left + 32]
                for image, (top, left) in zip(padded, corners, strict=True)
            ]
        )
    made, middle = np.empty_like(x), (np.array([24, 32]) - 1) / 2
    for i, one in enumerate(transform.matrix(values, (24, 32)).numpy()):
        matrix = one[1::-1, 1::-1]
        offset = middle - matrix @ middle + one[1::-1, 2]
        for c in range(2):
            made[i, c] = ndimage.affine_transform(
                x[i, c], matrix, offset, order=1, mode=SCIPY[border], cval=FILL
            )
    return made
