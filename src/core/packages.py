"""Packages that only some commands need: the extras of pyproject.toml install them."""

from importlib.util import find_spec

from src.core.errors import UserError


def is_installed(package: str) -> bool:
    """Return whether `package` can be imported. It is not imported."""
    try:
        return find_spec(package) is not None
    except ValueError:  # sys.modules says that there is none
        return False


def require(what: str, extra: str, *packages: str) -> None:
    """Raise UserError if one of `packages` is not installed.

    Args:
        what: the command or setting that needs them.
        extra: the extra of pyproject.toml that installs them.
        packages: the names by which they are imported; without any, that of the extra.
    """
    if missing := [name for name in packages or (extra,) if not is_installed(name)]:
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(
            f"{what} needs {', '.join(missing)}, which {verb} not installed: "
            f"pip install '.[{extra}]'"
        )
