"""Augmentation against NumPy, SciPy and torchvision."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torchvision.transforms import v2

from src.core.errors import UserError
from src.core.randomness import CounterRNG
from src.data.transforms import geometric, pixelwise
from src.data.transforms.augment import Augment
from src.engine import build
from tests.conftest import TINY
from tests.data.test_base import epoch_batches
from tests.data.test_folder import write_folder

IMAGES = torch.rand(400, 3, 6, 9, generator=torch.Generator().manual_seed(0))
DRAWS = CounterRNG(torch.arange(400), 0)


def done(images=IMAGES, draws=DRAWS, border="constant", **transforms):
    chosen = Augment(transforms, border)
    values = chosen.sample(draws, images.shape[2:])
    return chosen.apply(images, values, draws), values


def test_random_numbers_of_a_sample_do_not_depend_on_its_batch():
    order = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    shuffled = CounterRNG(order, 0)
    transforms = {
        "rotation": geometric.Rotation(30),
        "noise": pixelwise.GaussianNoise(0.1),
        "salt": pixelwise.SaltAndPepper(0.3),
    }
    whole, _ = done(**transforms)
    mixed, _ = done(IMAGES[order], shuffled, **transforms)
    few, _ = done(IMAGES[7:9], CounterRNG(torch.tensor([7, 8]), 0), **transforms)
    assert torch.equal(mixed, whole[order])
    assert torch.equal(few, whole[7:9])
    alone, values = done(rotation=geometric.Rotation(30))
    assert torch.equal(
        values["rotation"]["degrees"],
        done(scale=geometric.Scale(0.5, 2), **transforms)[1]["rotation"]["degrees"],
    )
    assert not torch.equal(
        alone, done(draws=CounterRNG(torch.arange(400), 1), rotation=geometric.Rotation(30))[0]
    )


@pytest.mark.parametrize("vertical", [False, True])
def test_flips_equal_numpy(vertical):
    made, values = done(flip=geometric.Flip(0.3, vertical))
    flipped = values["flip"]["flipped"].bool()
    assert np.mean(flipped.numpy()) == pytest.approx(0.3, abs=0.07)
    assert torch.equal(made[~flipped], IMAGES[~flipped])
    assert np.array_equal(
        made[flipped].numpy(), np.flip(IMAGES[flipped].numpy(), 2 if vertical else 3)
    )


def test_a_translation_by_whole_pixels_reaches_at_least_one_pixel():
    _, values = done(shift=geometric.Translation(0.03, whole_pixels=True))
    assert values["shift"]["x"].unique().tolist() == [-1, 0, 1]


@pytest.mark.parametrize("border", ["constant", "reflect", "wrap"])
def test_whole_pixel_translations_equal_numpy_pad_and_are_uniform(border):
    most = 4
    made, values = done(border=border, shift=geometric.Translation(most, whole_pixels=True))
    padded = np.pad(IMAGES.numpy(), [(0, 0), (0, 0), (most, most), (most, most)], mode=border)
    places = np.stack([values["shift"][name].numpy() for name in ("x", "y")], 1).astype(int)
    for image, pad, (x, y) in zip(made.numpy(), padded, places, strict=True):
        assert np.array_equal(
            image, pad[:, most - y : most - y + 6, most - x : most - x + 9]
        )  # to the right and down
    assert set(places[:, 0]) == set(places[:, 1]) == set(range(-most, most + 1))
    assert stats.chisquare(np.unique(places, return_counts=True)[1]).pvalue > 0.001


def test_quarter_turn_equals_numpy_rot90():
    square = IMAGES[:, :, :, :6]
    turned = Augment({"rotation": geometric.Rotation(180)}).apply(
        square, {"rotation": {"degrees": torch.full((400,), 90.0, dtype=torch.float64)}}, DRAWS
    )
    assert np.array_equal(turned.numpy(), np.rot90(square.numpy(), 1, (2, 3)))


def test_composed_transforms_equal_one_scipy_resampling():
    """Rotate, scale, move, mirror: SciPy gets one matrix, the product of the inverses in
    reverse."""
    transforms = {
        "rotation": geometric.Rotation(40),
        "scale": geometric.Scale(0.5, 2),
        "shift": geometric.Translation(2.5),
        "flip": geometric.Flip(0.5),
    }
    made, values = done(border="symmetric", **transforms)
    middle = np.array([2.5, 4])
    for i in range(20):
        one = {
            name: {key: float(value[i]) for key, value in each.items()}
            for name, each in values.items()
        }
        angle = np.radians(one["rotation"]["degrees"])
        turn = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )  # (y, x) of the place to which pixel (y, x) moves
        forward = [
            turn,
            one["scale"]["scale"] * np.eye(2),
            np.diag([1, 1 - 2 * one["flip"]["flipped"]]),
        ]
        assert 0.5 <= one["scale"]["scale"] <= 2
        moved = np.array([one["shift"]["y"], one["shift"]["x"]])
        matrix = np.linalg.inv(forward[2] @ forward[1] @ forward[0])
        offset = middle - matrix @ (middle + forward[2] @ moved)
        for channel, result in zip(IMAGES[i].double().numpy(), made[i].numpy(), strict=True):
            assert (
                np.abs(
                    ndimage.affine_transform(channel, matrix, offset, order=1, mode="reflect")
                    - result
                ).max()
                < 1e-4
            )


@pytest.mark.parametrize(("min_area", "aspect"), [(0.5, 1.333), (0.08, 4 / 3), (0.6, 3.0)])
@pytest.mark.parametrize("size", [(3000, 3000), (2000, 3000)])
def test_crops_have_the_distribution_of_torchvision(min_area, aspect, size):
    """Images are large, so that torchvision's rounding to whole pixels does not matter.

    Its aspect ratio is given relative to that of the image.
    """
    n, (height, width) = 3000, size
    ratio = width / height
    peer = v2.RandomResizedCrop(32, (min_area, 1), (ratio / aspect, ratio * aspect))
    image = torch.zeros(1, 1, 1).expand(1, height, width)
    torch.manual_seed(0)
    parts = [peer.make_params([image]) for _ in range(n)]
    side = {"left": width, "top": height, "width": width, "height": height}
    reference = {name: np.array([p[name] for p in parts]) / side[name] for name in side}
    actual = geometric.Crop(min_area, aspect).sample(CounterRNG(torch.arange(n), 0), size)
    actual = {name: value.numpy() for name, value in actual.items()}
    for crop in (actual, reference):
        crop["area"] = crop["width"] * crop["height"]
        crop["log ratio"] = np.log(crop["width"] / crop["height"])
    for name in actual:
        # torchvision's sides are whole pixels: sides within 1e-3 count as equal
        a, b = (np.round(crop[name] / 1e-3) for crop in (actual, reference))
        assert stats.ks_2samp(a, b).pvalue > 1e-3, name
    whole = [np.mean((crop["width"] == 1) & (crop["height"] == 1)) for crop in (actual, reference)]
    assert whole[0] == pytest.approx(whole[1], abs=0.02)


def test_crops_stay_inside_the_image():
    """No side equals that of the image, except after ten attempts that do not fit (0.26^10 of
    them)."""
    values = geometric.Crop(0.5, 1.333).sample(CounterRNG(torch.arange(50000), 0), (32, 32))
    sides = torch.stack([values["width"], values["height"]])
    places = torch.stack([values["left"], values["top"]])
    full = sides == 1
    assert torch.equal(full[0], full[1])
    assert full[0].double().mean() < 1e-4
    assert (places >= 0).all()
    assert (places + sides <= 1).all()
    assert sides.prod(0).min() >= 0.5 - 1e-6
    never = geometric.Crop(1.0, 2.0).sample(CounterRNG(torch.arange(100), 0), (32, 32))
    assert all((never[name] == 1).all() for name in ("width", "height"))
    assert all((never[name] == 0).all() for name in ("left", "top"))


def test_crop_enlarges_the_recorded_part():
    images = torch.rand(300, 1, 12, 16, generator=torch.Generator().manual_seed(1))
    made, values = done(
        images, CounterRNG(torch.arange(300), 0), border="edge", crop=geometric.Crop(0.3, 1.5)
    )
    crop = values["crop"]
    for i in range(20):
        left, top = float(crop["left"][i]) * 16, float(crop["top"][i]) * 12
        width, height = float(crop["width"][i]) * 16, float(crop["height"][i]) * 12
        assert min(left, top) >= 0
        assert left + width <= 16 + 1e-4
        assert top + height <= 12 + 1e-4
        rows, columns = (
            top + (np.arange(12) + 0.5) * height / 12 - 0.5,
            left + (np.arange(16) + 0.5) * width / 16 - 0.5,
        )
        places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
        expected = ndimage.map_coordinates(
            images[i, 0].double().numpy(), places, order=1, mode="nearest"
        )
        assert np.abs(made[i, 0].numpy() - expected).max() < 1e-4


def test_only_training_images_are_augmented_differently_each_epoch(config, tmp_path):
    chosen = ("augment=crop_flip", "data.permute=true")
    first, second, validation, data = epoch_batches(config, tmp_path / "a", *chosen)
    assert not torch.equal(first.sum(0), second.sum(0))
    assert torch.equal(validation[0], data.val.images[: len(validation[0])].float() / 255)
    again, *_ = epoch_batches(config, tmp_path / "b", *chosen)
    assert torch.equal(first, again)
    *_, plain = epoch_batches(config, tmp_path / "c", "data.permute=true")
    assert torch.equal(plain.val.images, data.val.images)
    back = (
        data.permutation.argsort()
    )  # images are augmented, then permuted: without the permutation it is a shifted digit
    digits = (first.flatten(2)[:, :, back].view_as(first) * 255).round()
    resting = {
        bytes(row.numpy()) for image in data.train.images for row in image.flatten(0, 1).flatten(1)
    }
    middle = digits[:, 0, 12, 4:-4]  # a row that was moved by at most 4 pixels and perhaps mirrored
    found = [any(_inside(row, other) for other in resting) for row in middle[:5].byte().numpy()]
    assert all(found)


def test_images_are_augmented_before_binarization(config, tmp_path):
    first, *_ = epoch_batches(config, tmp_path / "a", "augment=warp", "data.binarize=true")
    plain, *_ = epoch_batches(config, tmp_path / "b", "data.binarize=true")
    assert set(first.unique().tolist()) == {0, 1}
    assert not torch.equal(first, plain)


def _inside(row, other):
    whole = np.frombuffer(other, np.uint8)
    return any(bytes(row) in bytes(way) for way in (whole, whole[::-1]))


def test_augmented_images_do_not_depend_on_workers_or_batch_size(config, tmp_path):
    write_folder(tmp_path / "in", ("train", "test"), n=12)
    settings = ("data=folder", f"data.root={tmp_path / 'in'}", "data.size=28", "data.val_size=0",
                "data.limit=null",
                "augment=strong", "model=fc", "data.channels=1")  # fmt: skip
    seen = []
    for i, more in enumerate(
        (
            "data.batch_size=24",
            "data.batch_size=5",
            "data.batch_size=24",
            "data.batch_size=24 seed=1",
        )
    ):
        keep = "false" if i == 2 else "true"
        first, *_ = epoch_batches(
            config, tmp_path / str(i), *settings, *more.split(), f"data.in_memory={keep}"
        )
        seen.append(sorted(bytes(image.numpy()) for image in first))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0] != seen[3]


def test_augment_takes_one_name_or_a_list_and_a_border(config):
    both = build.augmentation(
        config("augment=[standard,noise,cutmix]", "augment.border=wrap", *TINY, "model=fc")
    )
    assert list(both.geometric) == ["flip", "rotation", "scale", "translation"]
    assert (list(both.pixel_wise), list(both.mixing), both.border) == (
        ["noise"],
        ["cutmix"],
        "wrap",
    )
    assert (
        build.augmentation(config("augment=[standard,noise]", *TINY, "model=fc")).border
        == "reflect"
    )
    assert build.augmentation(config("augment=none", *TINY, "model=fc")) is None
    for wrong, words in (
        (
            "augment.border=mirror",
            "augment.border=mirror: must be one of constant, edge, reflect, symmetric, wrap",
        ),
        (
            "augment.scale.min_scale=2",
            r"augment\.scale: .*min_scale=2 is more than max_scale=1\.111",
        ),
    ):
        with pytest.raises(UserError, match=words):
            build.augmentation(config("augment=standard", wrong, *TINY, "model=fc"))


def test_alternating_flips_show_both_versions_of_each_image_in_two_epochs():
    flip = geometric.Flip(0.5, alternate=True)
    epochs = [CounterRNG(torch.arange(4000), 0, epoch=epoch) for epoch in range(4)]
    flipped = [flip.sample(rng.fork("flip"), (28, 28))["flipped"] for rng in epochs]
    assert abs(float(flipped[0].mean()) - 0.5) < 0.04  # 5 standard errors
    assert torch.equal(flipped[1], 1 - flipped[0])
    assert torch.equal(flipped[2], flipped[0])
    assert torch.equal(flipped[3], flipped[1])
