"""experiment=FILE.yaml: a recipe that is not in conf/experiment, such as the best of a sweep."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from src.config.overrides import as_text
from src.core.errors import UserError, first_line
from src.core.tree import leaves

KEY = "experiment="


def with_recipe(overrides: list[str]) -> list[str]:
    """Return `overrides` with those of the file in place of experiment=FILE.yaml.

    Raises UserError if the file is not a recipe.
    """
    given = [o for o in overrides if o.startswith(KEY) and o.endswith((".yaml", ".yml"))]
    if not given:
        return overrides
    path = Path(given[-1].removeprefix(KEY)).expanduser()
    try:
        recipe = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        assert isinstance(recipe, dict), "it has no settings"
        own = list(_overrides({str(key): value for key, value in recipe.items()}))
    except Exception as error:  # YAML, OmegaConf and the disk can raise any exception type
        raise UserError(f"experiment={path} cannot be read: {first_line(error)}") from error
    rest = [o for o in overrides if o not in given]
    keys = {_key(o) for o in rest}
    return [*(o for o in own if _key(o) not in keys), *rest]


def _overrides(recipe: dict[str, Any]) -> Iterator[str]:
    """Yield a recipe as overrides: its base, its choices, its values."""
    for entry in recipe.pop("defaults", []):
        if isinstance(entry, dict):
            ((key, choice),) = entry.items()
            yield f"{str(key).removeprefix('override ').lstrip('/')}={_text(choice)}"
        elif entry != "_self_":
            yield f"{KEY}{entry}"
    for key, value in leaves(recipe):
        yield f"{key}={_text(value)}"


def _text(value: Any) -> str:
    """Return a value as Hydra's grammar writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_text(one)}" for key, one in value.items()) + "}"
    is_plain = not isinstance(value, str) or value.replace("_", "a").isalnum()
    return str(value) if is_plain and value != "" else as_text(value)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")
