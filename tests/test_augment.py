"""Augmentation against NumPy and SciPy, each image by a draw of its own, of training images alone."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from src import build
from src.data.augment import flipped, shifted, warped
from src.randomness import generator
from tests.conftest import TINY
from tests.test_data import epoch_batches

IMAGES = torch.rand(400, 2, 6, 9, generator=torch.Generator().manual_seed(0))
NUMPY = {"zeros": "constant", "reflect": "reflect"}


def test_flipped_images_are_numpys_or_untouched():
    made = flipped(IMAGES, generator(0), p=0.3)
    turned = torch.from_numpy(IMAGES.numpy()[..., ::-1].copy())
    was_turned = [torch.equal(a, b) for a, b in zip(made, turned, strict=True)]
    assert all(torch.equal(a, b) for a, b, t in zip(made, IMAGES, was_turned, strict=True) if not t)
    assert np.mean(was_turned) == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize("border", NUMPY)
@pytest.mark.parametrize("most", [1, 5])
def test_shifted_images_are_crops_of_numpys_padded_ones(border, most):
    made = shifted(IMAGES, generator(0), most, border).numpy()
    padded = np.pad(IMAGES.numpy(), [(0, 0), (0, 0), (most, most), (most, most)], mode=NUMPY[border])
    places = []
    for i, image in enumerate(made):
        crops = {(y, x): padded[i, :, y : y + 6, x : x + 9] for y in range(2 * most + 1) for x in range(2 * most + 1)}
        places.append(next(place for place, crop in crops.items() if np.array_equal(crop, image)))
    counts = np.unique(places, axis=0)
    assert len(counts) == (2 * most + 1) ** 2 or most == 5  # 400 draws of 121
    assert len(counts) > 100 or most == 1


def test_a_reflection_wider_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"most=6: an image of 6 x 9 reflects at most 5 pixels"):
        shifted(IMAGES, generator(0), 6, "reflect")


def test_warped_images_are_scipys():
    """The same draws, the map written anew: a pixel at p comes from R p / zoom about the middle, plus the shift."""
    settings = {"degrees": 30.0, "scale": 0.5, "shift": 2.0}
    made = warped(IMAGES[:20], generator(0), **settings).numpy()
    draw = (2 * torch.rand(4, 20, generator=generator(0)) - 1).double().numpy()
    middle = (np.array(IMAGES.shape[2:]) - 1) / 2
    for i in range(20):
        angle, zoom = np.radians(30) * draw[0, i], 1.5 ** draw[1, i]
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        matrix = np.array([[cos, sin], [-sin, cos]])  # (y, x) of the source from (y, x) of the result
        offset = middle - matrix @ middle + 2 * draw[[3, 2], i]
        for c in range(2):
            bordered = np.pad(IMAGES[i, c].double().numpy(), 20)  # zeros that SciPy may interpolate to, as grid_sample does
            at = offset + 20 - matrix @ np.array([20, 20])
            expected = ndimage.affine_transform(bordered, matrix, at, order=1)[20:-20, 20:-20]
            assert np.abs(made[i, c] - expected).max() < 1e-4


def test_warps_of_nothing_leave_the_image():
    assert torch.allclose(warped(IMAGES, generator(0)), IMAGES, atol=1e-5)


def test_training_alone_is_augmented_anew_every_epoch(config, tmp_path):
    chosen = ("augment=crop_flip", "data.permute=true")
    first, second, validation, data = epoch_batches(config, tmp_path / "a", *chosen)
    assert not torch.equal(first.sum(0), second.sum(0))
    assert torch.equal(validation[0], data.val.images[: len(validation[0])].float() / 255)
    again, *_ = epoch_batches(config, tmp_path / "b", *chosen)
    assert torch.equal(first, again)
    _, _, _, plain = epoch_batches(config, tmp_path / "c", "data.permute=true")
    assert torch.equal(plain.val.images, data.val.images)
    back = data.permutation.argsort()  # augmented, then permuted: undone, a training image is a shifted digit again
    digits = (first.flatten(2)[:, :, back].view_as(first) * 255).round()
    resting = {bytes(row.numpy()) for image in data.train.images for row in image.flatten(0, 1).flatten(1)}
    middle = digits[:, 0, 12, 4:-4]  # a row that was moved by at most 4 pixels and may be mirrored
    found = [any(_inside(row, other) for other in resting) for row in middle[:5].byte().numpy()]
    assert all(found)


def _inside(row, other):
    whole = np.frombuffer(other, np.uint8)
    return any(bytes(row) in bytes(way) for way in (whole, whole[::-1]))


def test_an_augmentation_that_cannot_be_is_one_line(config):
    cfg = config("augment=crop_flip", "augment.shift.border=reflect", *TINY, "model=fc")
    data = build.data(cfg)
    assert [transform.keywords for transform in data.augment] == [{"most": 4, "border": "reflect"}, {"p": 0.5}]
