"""Build one node of a config, with a one-line error if its class rejects the settings."""

from typing import Any

from hydra.utils import instantiate

from src.core.errors import UserError


def instantiate_node(node: Any, name: str) -> Any:
    """Build the object that a config node describes.

    Args:
        node: has a `_target_`; its lists and dicts reach the class as plain Python ones.
        name: the node's dotted name, for the error.

    Raises:
        UserError: the class rejected its settings.
    """
    try:
        return instantiate(node, _convert_="all")
    except UserError:
        raise
    except Exception as error:  # Hydra wraps the error of the class
        raise UserError(f"{name}: {root_cause(error)}") from error


def root_cause(error: BaseException) -> str:
    """Return the first two lines of the exception that Hydra wrapped, as one line."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return "; ".join(lines[:2]) if lines else type(cause).__name__
