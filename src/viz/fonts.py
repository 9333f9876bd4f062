"""Draw text in any script with the Noto fonts, each run of characters in its font and direction."""

import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import ImageDraw, ImageFont, features

LATIN = "NotoSans[wght].ttf"  # Greek and Cyrillic too
LOST = "\U0010ffff"  # a character that no font has
SHAPING: dict[str, Any] = {"direction": "ltr"} if features.check("raqm") else {}


def length(text: str, size: int) -> float:
    """Return the width of `text` in pixels, in letters of `size` pixels."""
    return sum(_face(font, size).getlength(run, **SHAPING) for font, run in _runs(text))


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    fill: Any = 0,
    anchor: str = "la",
) -> None:
    """Draw one line of text.

    Args:
        draw: Pillow's drawing object of the picture.
        place: x and y of the anchor, in pixels.
        text: in any script; characters that no font has become boxes.
        size: height of the letters in pixels.
        fill: color of the letters.
        anchor: l, m or r (left, middle, right), then a or m (top, middle), as in Pillow.
    """
    x, y = place
    x -= {"l": 0, "m": 0.5, "r": 1}[anchor[0]] * length(text, size)
    above, below = _face(_files()[0], size).getmetrics()
    baseline = y + (above if anchor[1] == "a" else (above - below) / 2)
    for font, run in _runs(text):
        face = _face(font, size)
        draw.text((x, baseline), run, fill, face, anchor="ls", **SHAPING)
        x += face.getlength(run, **SHAPING)


def wrapped(text: str, size: int, width: float) -> list[str]:
    """Split `text` between words into lines of at most `width` pixels, unless a word is longer."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and length(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def shortened(line: str, size: int, width: float) -> str:
    """Return `line`, or as much of it as fits into `width` pixels with dots after it."""
    if length(line, size) <= width:
        return line
    return next(
        part
        for n in range(len(line), -1, -1)
        if length(part := f"{line[:n]}...", size) <= width or not n
    )


def drawable(text: str) -> str:
    """Return `text` with undecodable bytes of a file name replaced by escapes."""
    return unicodedata.normalize("NFC", text.encode(errors="backslashreplace").decode())


def font_files(texts: Iterable[str]) -> list[Path]:
    """Return the fonts that `texts` need, the one for Latin letters first."""
    used = {font: None for text in texts for font, _ in _runs(text)}
    return list({_files()[0]: None} | used)


def _runs(text: str) -> list[tuple[Path, str]]:
    """Split `text` into pieces with one font each, from left to right."""
    characters = drawable(text)
    font, fonts, before = _files()[0], list[Path](), ""
    for i, character in enumerate(characters):
        after = next((other for other in characters[i:] if not _is_neutral(other)), "")
        inside = _is_from_right(before) and _is_from_right(after)
        is_mark = unicodedata.category(character)[0] in "MC"  # or a joiner
        keep = inside if _is_neutral(character) else is_mark
        if not (is_mark or _is_neutral(character)):
            before = character
        if not (keep and _has(font, character)):
            font = _font_for(character)
        fonts.append(font)
    pairs = groupby(zip(fonts, characters, strict=True), key=lambda pair: pair[0])
    runs = [(font, "".join(character for _, character in pair)) for font, pair in pairs]
    return _from_left_to_right(runs)


def _from_left_to_right(runs: list[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """Reverse runs that are read from right to left, and neutral characters between them.

    Pillow does this inside a run.
    """
    ordered: list[tuple[Path, str]] = []
    while runs:
        last = 0
        if _is_from_right(runs[0][1]):
            for i, (_, run) in enumerate(runs):
                if _is_from_right(run):
                    last = i
                elif not all(map(_is_neutral, run)):
                    break
        ordered += reversed(runs[: last + 1])
        runs = runs[last + 1 :]
    return ordered


def _is_from_right(text: str) -> bool:
    return any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)


def _is_neutral(character: str) -> bool:
    """Return whether a character is space or punctuation, which occurs in words of any script."""
    return unicodedata.category(character)[0] in "ZP"


@cache
def _font_for(character: str) -> Path:
    return next((font for font in _files() if _has(font, character)), _files()[0])


@cache
def _has(font: Path, character: str) -> bool:
    """Return whether `font` has a glyph for `character`.

    Pillow does not say, so the glyph is compared with the box for a missing one.
    """
    return _drawn(font, character) != _drawn(font, LOST)


def _drawn(font: Path, character: str) -> tuple[Any, bytes]:
    mask = _face(font, 32, ImageFont.Layout.BASIC).getmask(character)
    return mask.size, bytes(mask)


@cache
def _face(font: Path, size: int, layout: Any = None) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font, size, layout_engine=layout)


@cache
def _files() -> list[Path]:
    """Return the fonts, most used first."""
    noto = Path(str(files("manimgx_fonts")))
    cjk = Path(str(files("noto_cjk_sans_jp_regular"))) / "NotoSansCJKjp-Regular.otf"
    others = sorted(path for path in noto.glob("*.ttf") if "Italic" not in path.name)
    return [noto / LATIN, cjk, *(path for path in others if path.name != LATIN)]
