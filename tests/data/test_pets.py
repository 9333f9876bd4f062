"""Oxford-IIIT Pets: small files in its format against torchvision's reader, and errors."""

import numpy as np
import pytest
import torch
from torchvision.datasets import OxfordIIITPet

from src.core.errors import UserError
from src.data.images import ImageSet
from tests.conftest import SHARED, command, data_of
from tests.data.writers import write_pets


@pytest.fixture
def pets(tmp_path):
    """A root with four breeds, 6 training and 3 test images of each, each image of one color."""
    write_pets(tmp_path)
    return tmp_path


def settings(root, *more):
    return (
        "model=fc",
        "data=pets",
        f"data.root={root}",
        "data.size=8",
        "data.download=false",
        *more,
    )


@pytest.mark.parametrize(
    ("classes", "target"), [("breeds", "category"), ("species", "binary-category")]
)
def test_images_and_labels_equal_torchvision(config, pets, classes, target):
    data = data_of(config, *settings(pets, f"data.classes={classes}"))
    assert data.num_classes == {"breeds": 4, "species": 2}[classes]
    for part, split in ((data.train, "trainval"), (data.test, "test")):
        reference = OxfordIIITPet(str(pets), split, target)
        assert part.labels.tolist() == [label for _, label in reference]
        means = np.array([np.asarray(image).mean((0, 1)) for image, _ in reference])
        assert np.abs(part.images.numpy().mean((2, 3)) - means).max() < 1
        names = reference.classes if classes == "breeds" else reference.bin_classes
    assert [name.lower().replace("_", " ") for name in data.class_names] == [
        name.lower() for name in names
    ]


def test_data_classes_selects_breeds_in_any_spelling(config, pets):
    data = data_of(
        config,
        *settings(
            pets, "data.classes=['maine coon',ABYSSINIAN]", "data.val_size=4", "data.limit=7"
        ),
    )
    assert data.class_names == ["Maine_Coon", "Abyssinian"]
    assert (len(data.train), len(data.val), len(data.test)) == (7, 4, 6)
    assert data.test.labels.bincount().tolist() == [3, 3]
    reddish = data.test.images[:, 0].flatten(1).float().mean(1) > data.test.images[:, 2].flatten(
        1
    ).float().mean(1)
    assert torch.equal(reddish, data.test.labels == 1), (
        "Abyssinians are painted yellow, Maine Coons violet-blue"
    )


def test_validation_is_cut_from_trainval(config, pets):
    whole, cut = (data_of(config, *settings(pets, f"data.val_size={n}")) for n in (0, 0.25))
    assert (len(whole.train), len(whole.val), len(whole.test)) == (24, 0, 12)
    assert (len(cut.train), len(cut.val), len(cut.test)) == (18, 6, 12)
    assert torch.equal(whole.test.images, cut.test.images)
    assert sorted(pixels_of(whole.train)) == sorted(pixels_of(cut.train) + pixels_of(cut.val))
    assert not set(pixels_of(whole.train)) & set(pixels_of(whole.test))


def pixels_of(part):
    return [image.numpy().tobytes() for image in part.images]


def test_streamed_pets_have_the_same_images_and_moments(config, pets):
    kept, lazy = (
        data_of(
            config,
            *settings(pets, f"data.in_memory={keep}", "data.permute=true", "data.size=[8,12]"),
        )
        for keep in ("true", "false")
    )
    assert isinstance(kept.train, ImageSet)
    assert not isinstance(lazy.train, ImageSet)
    pixels = kept.train.images.numpy() / 255
    for data in (kept, lazy):
        for actual, numpys in zip(
            data.moments(), (pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))), strict=True
        ):
            assert np.allclose(actual.numpy(), numpys, rtol=1e-9)
    kept_batches, lazy_batches = (
        [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
        for data in (kept, lazy)
    )
    for (a, la), (b, lb) in zip(kept_batches, lazy_batches, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(la, lb)


def edited(name, change):
    """Return a function that changes the text of the list `name` by `change`."""

    def edit(root):
        path = root / "oxford-iiit-pet" / "annotations" / name
        path.write_text(change(path.read_text()))

    return edit


def without_images(root):
    for image in ("Bengal_1", "Bengal_3"):
        (root / "oxford-iiit-pet" / "images" / f"{image}.jpg").unlink()


BROKEN = {  # a change to a good copy, more overrides, words of the error
    "half extracted": (without_images, [], ["2 of the 36 images", "Bengal_", ".jpg: delete"]),
    "no list": (
        lambda root: (root / "oxford-iiit-pet/annotations/test.txt").unlink(),
        [],
        ["test.txt does not exist", "download it"],
    ),
    "a cut line": (edited("test.txt", lambda text: text[:-3]), [], ["test.txt, line 12"]),
    "no lines": (
        edited("test.txt", lambda text: ""),
        [],
        ["do not match", "only one of them has Abyssinian"],
    ),
    "a cut list": (
        edited(
            "trainval.txt",
            lambda text: "".join(line for line in text.splitlines(True) if "Bengal" not in line),
        ),
        [],
        ["do not match", "only one of them has Bengal"],
    ),
    "one list twice": (
        edited("test.txt", lambda text: text + "Bengal_1 3 1 1\n"),
        [],
        ["both list Bengal_1"],
    ),
    "truncated image": (
        lambda root: (root / "oxford-iiit-pet/images/Bengal_1.jpg").write_bytes(b"\xff\xd8"),
        [],
        ["Bengal_1.jpg is not a readable image"],
    ),
    "unknown breed": (
        lambda root: None,
        ["data.classes=[bengel]"],
        ["bengel", "Abyssinian, american_bulldog", "mean bengal?"],
    ),
    "a breed twice": (
        lambda root: None,
        ["data.classes=[Bengal,bengal]"],
        ["[Bengal, bengal]", "twice"],
    ),
    "wrong number": (
        lambda root: None,
        ["data.num_classes=37"],
        ["data.num_classes=37", "4 classes"],
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_pets_are_explained(config, pets, kind):
    breaks, more, words = BROKEN[kind]
    breaks(pets)
    with pytest.raises(UserError) as error:
        data_of(config, *settings(pets, *more))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.slow
def test_broken_image_in_a_worker_is_a_one_line_error(pets):
    (pets / "oxford-iiit-pet" / "images" / "Bengal_1.jpg").write_bytes(b"\xff\xd8")
    result = command(
        "train",
        *settings(pets),
        "data.in_memory=false",
        "model.normalize.mean=0.5",
        "model.normalize.std=0.5",
        "trainer=cpu",
        "callbacks=none",
        "logger=csv",
        f"out={pets / 'runs'}",
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(
        f"error: {pets / 'oxford-iiit-pet' / 'images' / 'Bengal_1.jpg'} is not a"
    )


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"real data for development are not at {SHARED}")
def test_real_pets_are_read(config):
    data = data_of(config, "model=fc", "data=pets", f"data.root={SHARED}", "data.size=32")
    reference = OxfordIIITPet(str(SHARED), "test")
    assert (len(data.train), len(data.val), len(data.test)) == (259, 0, 111)
    assert data.test.labels.tolist() == reference._labels
    assert data.num_classes == 37
