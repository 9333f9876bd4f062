"""Complete any choice of a config group, and any command, to a config that passes the checks.

All of them are discovered in conf/: there is no list of models or data sets.
"""

import re
from functools import cache

from omegaconf import OmegaConf

from src.config.checks import check
from src.config.compose import CONF, compose, groups, target_of
from src.config.signatures import class_attribute
from src.core.errors import UserError
from src.core.tree import leaves

COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml"))
CHOICES = [(group, choice) for group, choices in groups().items() for choice in choices]


def config_of(group: str, choice: str) -> tuple[str, tuple[str, ...]]:
    """Return a command and overrides that pass its checks, for a member of CONFIGS."""
    if group == "command":
        return choice, with_paths(choice, ())
    return command_for(group, choice), chosen(group, choice)


def command_for(group: str, choice: str) -> str:
    """Return the command that takes this choice."""
    if group == "candidate":
        return "nanonet"
    return "augment" if (group, choice) == ("augment", "model") else "train"


@cache
def chosen(group: str, choice: str) -> tuple[str, ...]:
    """Return overrides that make this choice, with a model, data and paths that it needs."""
    command = command_for(group, choice)
    for others in companions(group, choice):
        try:
            overrides = with_paths(command, (f"{group}={choice}", *others))
            check(compose(command, list(overrides)), command)
        except UserError:
            continue
        return overrides
    return (f"{group}={choice}",)  # which the test shows to fail


def with_paths(command: str, overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Return `overrides` with a value for each setting that must be given."""
    plain = OmegaConf.to_container(compose(command, list(overrides)), resolve=False)
    missing = [path for path, value in leaves(plain) if value == "???"]
    return (*overrides, *(f"{path}=somewhere" for path in missing))


def companions(group: str, choice: str) -> list[tuple[str, ...]]:
    """Return choices of other groups to try with this one, the defaults first."""
    if group == "model":
        return [(), *data_for(attribute("model", choice, "takes"))]
    if group == "data":
        held = attribute("data", choice, "holds")
        fitting = [name for name in groups()["model"] if attribute("model", name, "takes") == held]
        return [(), *((f"model={name}",) for name in fitting)]
    if group.startswith("model/"):
        part = group.removeprefix("model/")
        users = [name for name in groups()["model"] if f"{part}: " in text_of("model", name)]
        return [
            (),
            *(
                (f"model={name}", *data)
                for name in users
                for data in data_for(attribute("model", name, "takes"))[:1]
            ),
        ]
    if group == "callbacks":
        return [(), ("model=fc",)]  # early stopping needs a validation metric
    return [()]


def data_for(kind: str) -> list[tuple[str, ...]]:
    """Return the choices of data that hold `kind`; images are the default."""
    if kind == "images":
        return [()]
    names = [name for name in groups()["data"] if attribute("data", name, "holds") == kind]
    return [(f"data={name}",) for name in names]


def attribute(group: str, choice: str, name: str) -> str:
    """Return an attribute of the class that a choice names, or that the one it builds on names."""
    if target := target_of(group, choice):
        return class_attribute(target, name)
    parents = re.findall(r"^  - (\w+)(?:@\w+)?$", text_of(group, choice), re.MULTILINE)
    return next(attribute(group, parent, name) for parent in parents if parent != "_self_")


def text_of(group: str, choice: str) -> str:
    """Return the text of a choice's file."""
    return (CONF / group / f"{choice}.yaml").read_text()


def targets_of(group: str, choice: str) -> set[str]:
    """Return the classes and functions that a choice names, itself or in those it builds on."""
    text = text_of(group, choice)
    parents = re.findall(r"^  - (\w+)(?:@\w+)?$", text, re.MULTILINE)
    inherited = (targets_of(group, parent) for parent in parents if parent != "_self_")
    return set(re.findall(r"_target_: (\S+)", text)).union(*inherited)


def configs() -> list[tuple[str, str]]:
    """Return all commands, and choices that have every class and function of conf/ among them.

    Recipes are left out, because they only combine other choices.
    """
    found = [("command", name) for name in COMMANDS]
    seen: set[str] = set()
    for group, choice in CHOICES:
        targets = (targets_of(group, choice) or {choice}) - seen
        if targets and group != "experiment":
            seen |= targets
            found.append((group, choice))
    return found


CONFIGS = configs()
