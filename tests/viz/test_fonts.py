"""Captions in any script: every character has a glyph, and every script its reading order."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, features

from src.viz import captions, charts, fonts

NAMES = [
    "Ørsted", "Tiếng Việt", "Łódź", "Привет", "Ελλάδα", "猫", "犬", "简体中文", "繁體", "かな カナ",
    "한국어", "שלום",
    "مرحبا", "नमस्ते", "ไทย", "ქართული", "Հայերեն", "தமிழ்", "বাংলা", "አማርኛ", "🐱", "naïve café",
    "50 % — ½",
]  # fmt: skip


def ink(text, size=20):
    """Return the bounding box of the ink of `text` as an array; None if there is no ink."""
    sheet = Image.new("L", (600, 60), 255)
    fonts.write(ImageDraw.Draw(sheet), (20, 15), text, size)
    dark = np.asarray(sheet) < 128
    rows, columns = dark.any(1).nonzero()[0], dark.any(0).nonzero()[0]
    return dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else None


@pytest.mark.parametrize("name", NAMES)
def test_every_character_has_a_glyph(name):
    box = ink("\U0010ffff")
    for character in name:
        if not character.isspace():
            drawn = ink(character)
            assert drawn is None or drawn.shape != box.shape or (drawn != box).any(), character
    assert fonts.length(name, 20) > 0


def test_similar_letters_differ():
    for one, other in (
        ("Ø", "O"),
        ("é", "e"),
        ("猫", "犬"),
        ("П", "Л"),
        ("한", "국"),
        ("ש", "ל"),
        ("ไ", "ท"),
    ):
        assert ink(one).shape != ink(other).shape or (ink(one) != ink(other)).any(), (one, other)


def test_composed_and_decomposed_letters_look_the_same():
    """macOS writes file names in decomposed letters."""
    assert np.array_equal(ink("한글é"), ink("한글é"))


@pytest.mark.skipif(
    not features.check("raqm"), reason="Pillow without raqm draws letters one by one"
)
def test_right_to_left_text_is_reordered():
    """The first word of a Hebrew line is at its right; numbers after it stay after it."""
    for line, first in (("שלום א", "א"), ("שלום_א", "א"), ("שלום (א", "א")):
        letter = ink(first)
        assert np.array_equal(ink(line)[-letter.shape[0] :, : letter.shape[1]].any(), True)
        left = ink(line)[:, : letter.shape[1]]
        assert left.sum() == letter.sum(), line
    seven = ink("7")
    assert ink("שלום 7")[:, -seven.shape[1] :].sum() == seven.sum()


@pytest.mark.skipif(
    not features.check("raqm"), reason="Pillow without raqm draws letters one by one"
)
def test_arabic_letters_are_joined():
    assert ink("محب", 30).any(0).all(), "no white between them"
    assert not ink("م\u200cح\u200cب", 30).any(0).all(), "these letters do not join"


def test_text_is_drawn_at_its_anchor():
    for anchor, x in (("la", 100), ("ma", 100), ("ra", 100), ("lm", 100), ("mm", 100), ("rm", 100)):
        sheet = Image.new("L", (300, 60), 255)
        fonts.write(ImageDraw.Draw(sheet), (x, 30), "猫 Hx 猫", 16, anchor=anchor)
        rows, columns = (np.asarray(sheet) < 128).nonzero()
        wide = fonts.length("猫 Hx 猫", 16)
        left = x - {"l": 0, "m": wide / 2, "r": wide}[anchor[0]]
        assert abs(columns.min() - left) <= 3
        assert abs(columns.max() - left - wide) <= 3
        assert abs((rows.min() + rows.max()) / 2 - (30 if anchor[1] == "m" else 40)) <= 3, anchor


def test_all_charts_draw_any_script():
    other = [name[::-1] for name in NAMES]
    images = torch.rand(len(NAMES), 3, 20, 30, generator=torch.Generator().manual_seed(0))
    counts = torch.eye(len(NAMES)).long()
    for draw in (
        lambda names: captions.draw_captioned(images, names),
        lambda names: charts.draw_bars([0.5] * len(names), names[5], names=names),
        lambda names: charts.draw_bars([0.5] * 2, "x", names=names[3:5]),
        lambda names: charts.draw_confusion(counts, names, "x"),
        lambda names: captions.draw_feature_maps(images[0], dict.fromkeys(names, images[0]), "x"),
        lambda names: captions.add_title(charts.draw_bars([1.0], "x"), names[4], names),
    ):
        one, two = draw(NAMES), draw(other)
        assert one.shape != two.shape or (one != two).any()
