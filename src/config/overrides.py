"""Quote overrides for Hydra, so that a path may contain any character that a file system allows."""

import os
import re
from functools import cache
from pathlib import Path
from typing import get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from src.config.commands import COMMANDS, AugmentByModel, types_of
from src.config.compose import CONF, target_of
from src.config.schema import has_mark
from src.config.targets import marked
from src.core.errors import UserError
from src.core.run_search import find_run
from src.core.types import PATH, RUN, TEXT, Mark

_FUNCTION = re.compile(r"(choice|range|interval|tag|sort|shuffle|glob|int|float|str|bool)\(.*\)$")
HYDRA_PATHS = ("hydra.run.dir", "hydra.sweep.dir")


@cache
def settings_with(mark: Mark) -> frozenset[str]:
    """Return the dotted names of all settings whose annotation has `mark`."""
    types = {
        key: kind for settings in COMMANDS.values() for key, kind in types_of(settings).items()
    }
    types |= {f"augment.{key}": kind for key, kind in types_of(AugmentByModel).items()}
    names = {
        key for key, kind in types.items() if has_mark(kind, mark) and get_origin(kind) is not dict
    }
    for group in ("data", "model"):
        for path in (CONF / group).glob("*.yaml"):  # also those that others build on
            names |= {f"{group}.{key}" for key in marked(target_of(group, path.stem), mark)}
    return frozenset((*HYDRA_PATHS, *names) if mark == PATH else names)


def quoted(override: str, sweep: bool = False) -> str:
    """Return `override` in Hydra's grammar: its value in quotes if it is a path or needs them.

    The value of a setting with the mark PATH is null or a path. Its characters have no special
    meaning, except a leading ~ for the home folder. If no such file or folder exists, the value may
    also be a text in quotes, a list of paths in brackets, or ${key} for the value of another
    setting. With `sweep` it may be several paths with commas between them, unless the commas are
    part of the name of an existing folder. The value of a setting with the mark TEXT is null or a
    text. That of a setting with the mark RUN may be `last`, see `src.core.run_search`.

    Raises:
        UserError: the path or a folder above it exists, and its name contains ${; or a function of
            Hydra's grammar, such as choice(), has wrong arguments.
    """
    key, equals, value = override.partition("=")
    if not equals:
        return override
    if key in settings_with(TEXT) and value not in ("", "null", "???"):
        return override if value[0] in "'\"" and _parsed(override) else f"{key}={as_text(value)}"
    is_path = key.lstrip("+") in settings_with(PATH) and value not in ("", "null", "???")
    if is_path and key.lstrip("+") in settings_with(RUN):
        value = find_run(value, key)
        override = f"{key}={value}"
    if is_path and "${" in value and "${" not in _missing(value):
        raise UserError(
            f"{override}: a path must not contain ${{, which refers to another setting; "
            "rename it or link to it (ln -s)"
        )
    if is_path and _exists(value):
        return f"{key}={_in_quotes(value)}"
    sweep = sweep and not key.startswith("hydra.") and not (is_path and "," not in _missing(value))
    hydras = value.startswith(("[", "'", '"')) or sweep
    if (hydras or not is_path) and _parsed(override):
        return override
    if sweep and _FUNCTION.match(value):
        hint = "; write null,a,b instead of choice(null,a,b)" if "null" in value else ""
        raise UserError(f"{override}: is not in Hydra's grammar for values of a sweep{hint}")
    several = _split(value) if sweep else [value]
    return f"{key}={','.join(_readable(one, is_path) for one in several)}"


def value_of(override: str) -> str | None:
    """Return the text in quotes that an override from `quoted` sets; None if it sets none."""
    parsed = _parsed(override)
    value = parsed.value() if parsed and override.endswith("'") else None
    return value if isinstance(value, str) else None


def unquoted(override: str) -> str:
    """Return `override`, which is from `quoted`, as a user would write it."""
    value = value_of(override)
    plain = f"{override.partition('=')[0]}={value}"
    return plain if value is not None and quoted(plain) == override else override


def setting(key: str, path: Path) -> str:
    """Return the override that sets `key` to `path`."""
    return f"{key}={as_text(str(path))}"


def _exists(value: str) -> bool:
    return os.path.lexists(value) or os.path.lexists(os.path.expanduser(value))  # noqa: PTH111


def _missing(value: str) -> str:
    """Return the last part of the path `value`, which does not exist."""
    path = Path(os.path.expanduser(value))  # noqa: PTH111
    head = next((head for head in (path, *path.parents) if os.path.lexists(head)), Path())
    return str(path.relative_to(head))


def _parsed(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None


def _in_quotes(path: str) -> str:
    """Return `path` in Hydra's quotes, with ~ expanded so that no later code expands it."""
    if path.split("/")[0] == "~" or not os.path.lexists(path):
        path = os.path.expanduser(path)  # noqa: PTH111 (Path's raises for an unknown user)
    if str(Path(path)).startswith("~"):
        path = os.path.abspath(path)  # noqa: PTH100 (as it is named, not where its links lead)
    return as_text(path)


def as_text(value: str) -> str:
    """Return `value` in Hydra's quotes."""
    inside = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", r"\'")
    return f"'{inside}'"


def _readable(value: str, is_path: bool) -> str:
    """Return one value as Hydra can read it; in a list, each member."""
    if value.startswith("[") and value.endswith("]"):
        return f"[{','.join(_readable(word.strip(), False) for word in _split(value[1:-1]))}]"
    if not (is_path and value[:1] not in "'\"") and _parsed(f"key={value}"):
        return value
    return _in_quotes(value) if is_path else as_text(value)


def _split(words: str) -> list[str]:
    """Split `words` at commas outside quotes and brackets."""
    return re.findall(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\[[^\]]*\]|[^,])+""", words)
