"""What is found out about photos before training."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.nanonet.photos import Photo, inspect, look_at, near_duplicates


def textured(seed: int, side: int = 96) -> Image.Image:
    """Return an image with large random patches."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def photo(name: str, label: int = 0, digest: str = "", look: int = 0, turn: float = 0.0) -> Photo:
    """Return a photo that is near to those with the same `look` if `turn` (radians) is small."""
    thumbnail = np.zeros(1024)
    thumbnail[2 * look : 2 * look + 2] = np.cos(turn), np.sin(turn)
    return Photo(Path(name), label, digest or name, thumbnail, 100, 0.5)


def test_copy_that_was_scaled_and_saved_again_is_near_and_another_photo_is_not(tmp_path: Path):
    textured(0).save(tmp_path / "first.png")
    textured(0).resize((60, 60)).save(tmp_path / "copy.jpg", quality=60)
    textured(1).save(tmp_path / "other.png")
    looks = [look_at(tmp_path / name, 0) for name in ("first.png", "copy.jpg", "other.png")]
    assert near_duplicates([look.thumbnail for look in looks]) == [0, 0, 2]
    assert [look.side for look in looks] == [96, 60, 96]


def test_near_duplicates_are_joined_through_others():
    # cos(0.15) = 0.989, cos(0.3) = 0.955
    photos = [photo("a"), photo("b", turn=0.3), photo("c", turn=0.15), photo("d", look=1)]
    assert near_duplicates([one.thumbnail for one in photos]) == [0, 0, 0, 3]


def test_many_frames_of_one_film_are_grouped_quickly():
    frame = photo("a").thumbnail
    start = time.process_time()
    assert near_duplicates([frame] * 500) == [0] * 500
    assert time.process_time() - start < 2  # comparing all groups for each pair takes longer


def test_luma_of_a_gray_photo_is_its_gray(tmp_path: Path):
    Image.new("L", (80, 80), 51).save(tmp_path / "gray.png")
    assert look_at(tmp_path / "gray.png", 0).luma == pytest.approx(0.2)


def test_exact_copies_within_a_class_count_once():
    found = inspect([photo("a", digest="x"), photo("b", digest="x"), photo("c", look=1)])
    assert [one.path.name for one in found.photos] == ["a", "c"]
    assert found.excluded == {"exact copies within a class": [Path("b")]}


def test_the_same_photo_with_two_labels_is_left_out_everywhere():
    found = inspect([photo("a", 0, "x"), photo("b", 1, "x"), photo("c", 1, look=1)])
    assert [one.path.name for one in found.photos] == ["c"]
    assert found.excluded == {"the same photo in several classes": [Path("a"), Path("b")]}


def test_copies_of_test_photos_are_left_out_exact_and_near():
    test = [photo("t", digest="x", look=1), photo("u")]
    train = [photo("a", digest="x", look=1), photo("b", turn=0.1), photo("c", look=2)]
    found = inspect(train, test)
    assert [one.path.name for one in found.photos] == ["c"]
    assert found.excluded == {"copies of test photos": [Path("a"), Path("b")]}


def test_near_duplicates_share_a_group_and_are_mentioned():
    found = inspect([photo("a"), photo("b", turn=0.1), photo("c", 1), photo("d", look=1)])
    assert found.groups == [0, 0, 0, 3]
    assert found.warnings == {
        "near duplicates in several classes": [Path("a"), Path("b"), Path("c")]
    }


def test_small_and_dark_photos_are_mentioned():
    small = replace(photo("a"), side=20)
    dark = replace(photo("b", look=1), luma=0.01)
    found = inspect([small, dark])
    assert found.warnings == {"smaller than 64 pixels": [Path("a")], "very dark": [Path("b")]}
