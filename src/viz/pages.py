"""Pages of one HTML file that need no network: the reports of src.train and src.nanonet."""

import base64
import io
from pathlib import Path
from typing import Any

from src.core.files import utf8, write_atomically


def render(package: str, template: str, **values: Any) -> str:
    """Return a page.

    Args:
        package: the package that holds the template, such as `src.nanonet`.
        template: its file, which extends `page.html.j2` of `src.viz`. Values are escaped.
        values: what the template shows.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, select_autoescape

    packages = (package, "src.viz")
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name, ".") for name in packages]),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def write_page(path: Path, page: str) -> None:
    """Write a page atomically."""
    write_atomically(path, lambda to: to.write_bytes(utf8(page)))


def data_url(content: bytes, kind: str) -> str:
    """Return the bytes of an image as a URL that holds them.

    Args:
        content: the bytes of its file.
        kind: `png`, `gif` or `jpeg`.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def jpeg_url(picture: Any, quality: int = 85) -> str:
    """Return a picture of Pillow as a JPEG within a URL."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality)
    return data_url(buffer.getvalue(), "jpeg")
