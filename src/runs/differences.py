"""Settings that differ between groups of runs, and short names made of them."""

import contextlib
import shlex
from collections.abc import Sequence
from functools import cache
from typing import Any

from src.config.compose import CONF
from src.config.recipe import with_recipe
from src.core.errors import UserError
from src.runs.info import RunInfo
from src.runs.seeds import Group, compared_settings, seeds
from src.runs.table import shown
from src.sweep.names import short_keys, short_value

FACTS = ("commit", "device")  # compared like settings, because they can change a result
CHOSEN_BY_MODEL = ("model._target_", "model.net.", "model.optimizer._target_")
IN_NAME = 3  # settings in a short name, more only if names would be equal
MAX_LENGTH = 20  # characters; settings with longer values are left out of short names

Rows = list[tuple[str, list[str]]]  # name -> the value of each group


def differences(groups: Sequence[Group]) -> Rows:
    """Return the settings, seeds and facts that differ; a group without a setting shows `-`.

    If the model differs, the settings that follow from its choice are left out.
    """
    settings = [compared_settings(group.first) for group in groups]
    names = dict.fromkeys(name for one in settings for name in one)
    models = [str(group.first.fields["model"]) for group in groups]
    rows = [("model", models)]
    for name in names:
        values = [_shown(one, name) for one in settings]
        if not (len(set(models)) > 1 and _follows(name, values, models, groups)):
            rows.append(_as_chosen(name, values, groups))
    rows += _seed_rows(groups)
    for name in FACTS:
        facts = [{str(run.fields[name] or "-") for run in group.members} for group in groups]
        rows.append((name, [", ".join(sorted(values)) for values in facts]))
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def short_names(groups: Sequence[Group]) -> list[str]:
    """Return a name for each group: its `name` or model, then what else differs.

    Groups that differ in no setting have the names of their folders too.
    """
    has_data = len({group.first.fields["data"] for group in groups}) > 1
    starts = [_start(group, has_data) for group in groups]
    details = _details_within(groups, starts, unique=True)
    names = [" ".join([start, *more]) for start, more in zip(starts, details, strict=True)]
    return [
        f"{name} ({group.first.folder.name})" if names.count(name) > 1 else name
        for name, group in zip(names, groups, strict=True)
    ]


def what_differs(runs: Sequence[RunInfo]) -> list[str]:
    """Return for each run the settings that differ most among those of its model and data."""
    kinds = [(run.fields["model"], run.fields["data"]) for run in runs]
    found = _details_within([Group([run]) for run in runs], kinds, unique=False)
    return [" ".join(more) for more in found]


def _details_within(
    groups: Sequence[Group], kinds: Sequence[object], unique: bool
) -> list[list[str]]:
    """Return the settings that differ among the groups of one kind, see `_details`."""
    found: dict[int, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        same = [k for k in range(len(groups)) if kinds[k] == kind]
        found |= zip(same, _details([groups[k] for k in same], unique), strict=True)
    return [found[k] for k in range(len(groups))]


def _start(group: Group, has_data: bool) -> str:
    run, names = group.first, {member.fields["name"] for member in group.members}
    if run.fields["name"] and len(names) == 1:
        return str(run.fields["name"])
    return " ".join(str(run.fields[key] or "?") for key in ("model", "data")[: 1 + has_data])


def _details(groups: Sequence[Group], unique: bool) -> list[list[str]]:
    """Return for each group the settings that distinguish it, as `key=value`.

    Those that all groups have and that have the most values come first. With `unique`, there are
    as many as make the groups differ.
    """
    has_means = any(len(group.members) > 1 for group in groups)
    rows = {
        name: [value.replace(", ", ",") for value in values]
        for name, values in differences(groups)
        if not (name in FACTS or (has_means and name.rpartition(".")[2] == "seed"))
    }
    rows = {name: values for name, values in rows.items() if max(map(len, values)) <= MAX_LENGTH}
    chosen: list[str] = []
    for name in sorted(rows, key=lambda name: ("-" in rows[name], -len(set(rows[name])))):
        old, new = (
            len(set(zip(*(rows[one] for one in names), strict=True)))
            for names in (chosen, [*chosen, name])
        )
        if len(chosen) < IN_NAME or (unique and new > old):
            chosen.append(name)
    short = short_keys(name.removesuffix("._target_") for name in chosen)
    words = [f"{short[name.removesuffix('._target_')]}=" for name in chosen]
    return [
        [
            word + short_value(rows[name][k])
            for word, name in zip(words, chosen, strict=True)
            if rows[name][k] != "-"
        ]
        for k in range(len(groups))
    ]


def _follows(
    name: str, values: Sequence[str], models: Sequence[str], groups: Sequence[Group]
) -> bool:
    """Return whether a setting follows from the choice of the model.

    It does if it belongs to the network or only some models have it, if all runs of a model have
    the same value, and if no command or recipe names it.
    """
    is_own = name.startswith(CHOSEN_BY_MODEL) or (name.startswith("model.") and "-" in values)
    is_constant = len(set(zip(models, values, strict=True))) == len(set(models))
    return (
        is_own and is_constant and not any(_names(run, name) for g in groups for run in g.members)
    )


def _names(run: RunInfo, name: str) -> bool:
    """Return whether the command of a run, or its recipe, names a setting or a group of it."""
    command = str((run.record.get("sessions") or [{}])[0].get("command", ""))
    return any(name == key or name.startswith(f"{key}.") for key in _keys(command) - {"model"})


@cache
def _keys(command: str) -> set[str]:
    """Return the dotted names of all that a command and its recipes set."""
    keys, words = set(), []
    with contextlib.suppress(ValueError):  # quotes that do not end
        words = shlex.split(command)
    while words:
        key, _, value = words.pop().partition("=")
        keys.add(key.lstrip("+~").replace("/", "."))
        if key == "experiment":
            path = value if value.endswith((".yaml", ".yml")) else CONF / f"experiment/{value}.yaml"
            with contextlib.suppress(UserError):  # the recipe is gone
                words += with_recipe([f"experiment={path}"])
    return keys


def _as_chosen(name: str, values: list[str], groups: Sequence[Group]) -> tuple[str, list[str]]:
    """Return the row of a class with the choices of its group, such as `model/loss`, if it can."""
    group = name.removesuffix("._target_").replace(".", "/")
    choices = [one.first.choices.get(group) for one in groups]
    pairs = set(zip(choices, values, strict=True))
    is_exact = len(pairs) == len(set(choices)) == len(set(values)) and None not in choices
    if name.endswith("._target_") and is_exact:
        return group, [str(choice) for choice in choices]
    return name, values


def _seed_rows(groups: Sequence[Group]) -> Rows:
    """Return the row of `seed`, and those of other seeds that are not equal to it."""
    names = dict.fromkeys(name for group in groups for name in seeds(group.first))
    rows = {
        name: [_range([seeds(r).get(name) for r in g.members]) for g in groups] for name in names
    }
    return [(k, values) for k, values in rows.items() if k == "seed" or values != rows.get("seed")]


def _range(values: Sequence[Any]) -> str:
    """Return seeds as a list, or as `0 to 9`."""
    numbers = sorted(value for value in values if isinstance(value, int))
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers)) or "-"


def _shown(settings: dict[str, Any], name: str) -> str:
    if name not in settings:
        return "-"
    value = settings[name]
    if name.endswith("_target_"):
        value = str(value).rpartition(".")[2]
    return "null" if value is None else shown(value)
