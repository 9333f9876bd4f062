"""Continue a run with the config that it was started with.

The annotation `Resumable` marks the settings that may change.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config.checks import check
from src.config.commands import Train, types_of
from src.config.compose import complete, first_lines, is_group, nearest, parse, paths
from src.config.inputs import expect_data, expect_packages
from src.config.jobs import Task, run_alone
from src.config.kinds import COLLECTIONS
from src.config.saved import check_saved
from src.config.schema import has_mark
from src.config.targets import marked
from src.core import runs
from src.core.errors import UserError, near
from src.core.types import PATH, RESUMABLE


def resume_run(task: Task, folder: Path, overrides: list[str]) -> None:
    """Continue the run in `folder`. The changes in `overrides` are saved in its config."""
    cfg = runs.load_config(folder)
    complete(cfg)
    check_saved(cfg.copy(), runs.config_path(folder))
    allowed = list(resumable(cfg))
    for override in overrides:
        key = override.partition("=")[0].lstrip("~")
        is_allowed = any(key == name or key.startswith(f"{name}.") for name in allowed)
        if not is_allowed or (override.startswith("~") and not key.startswith("callbacks.")):
            raise UserError(_refusal(cfg, key, override, allowed))
        _change(cfg, override)
    saved = cfg.copy()
    cfg.resume = str(folder)
    check(cfg)
    expect_data(cfg.data)
    expect_packages(cfg)

    def continue_run(cfg: DictConfig, folder: Path) -> Any:
        if not overrides or not runs.is_first_process():
            return task(cfg, folder)
        with runs.replaced_config(folder, saved):
            return task(cfg, folder)

    run_alone(continue_run, cfg, folder)


def _refusal(cfg: DictConfig, key: str, override: str, allowed: list[str]) -> str:
    """Return why a resumed run cannot use `override`."""
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    known = paths(plain)
    if key not in known and (suggestion := near(key, known)):
        return f"resume: unknown key '{key}'{suggestion}"
    return (
        f"resume: '{override}' cannot change: a resumed run keeps its config; "
        f"you may change {', '.join(allowed)}"
    )


def resumable(cfg: DictConfig) -> Iterator[str]:
    """Yield the dotted names of the settings and groups that a resumed run may change.

    The paths of a data set are among them, because the files may have moved.
    """
    for key, kind in types_of(Train).items():
        if has_mark(kind, RESUMABLE):
            yield key
    for group in ("trainer", "data", "model"):
        for key in marked(
            str(cfg[group]._target_), RESUMABLE, *([PATH] if group == "data" else [])
        ):
            yield f"{group}.{key}"
    yield from (group for group, kind in COLLECTIONS.items() if kind.resumable)


def _change(cfg: DictConfig, override: str) -> None:
    """Apply one override to `cfg`; `~callbacks.NAME` removes that callback."""
    key = override.split("=")[0].lstrip("~")
    if is_group(key):
        raise UserError(
            f"resume: '{override}' cannot change: name single settings of {key}, such as "
            "callbacks.early_stopping.patience=9 or ~callbacks.early_stopping"
        )
    (parsed,) = parse([override])
    if parsed.is_sweep_override():
        raise UserError(f"resume: '{override}' gives several values: a list is written {key}=[...]")
    try:
        if override.startswith("~"):
            del cfg.callbacks[key.removeprefix("callbacks.")]
        else:
            node = OmegaConf.select(cfg, key.rpartition(".")[0])
            OmegaConf.set_struct(cfg, True)
            if isinstance(node, DictConfig) and "_target_" in node:
                OmegaConf.set_struct(node, False)  # its signature decides which keys it has
            OmegaConf.update(cfg, key, parsed.value())
    except (KeyError, AttributeError) as error:
        plain = OmegaConf.to_container(cfg, resolve=False)
        assert isinstance(plain, dict)
        raise UserError(f"resume: unknown key '{key}'{nearest(key, paths(plain))}") from error
    except Exception as error:  # OmegaConf can raise any exception type
        raise UserError(f"resume: '{override}' cannot be used: {first_lines(error)}") from error
    finally:
        OmegaConf.set_struct(cfg, False)
