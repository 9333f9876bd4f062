"""The commands of the README, RESULTS.md, docs/ and the help texts: each composes and passes the
checks."""

import re
import shlex
from itertools import zip_longest

import pytest
from omegaconf import OmegaConf

from src.config.checks import check
from src.config.compose import CONF, compose
from src.config.overrides import quoted
from tests.conftest import ROOT

PAGES = [
    page
    for page in [ROOT / "README.md", ROOT / "RESULTS.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if not page.name.startswith("adding-a-")  # test_extending.py runs theirs
]
PLACEHOLDERS = {"S": "0", "ROW": "none"}  # in the pages, for a seed and a choice of augment
CONFIGS = {
    "bench.augment": "bench_augment",
    "bench.compiling": "bench",
    "bench.families": "bench_families",
    "bench.leave_one_out": "leave_one_out",
    "bench.scaling": "bench_scaling",
    "bench.serve": "bench_serve",
    "runs compare": "compare",
}
COMMAND = re.compile(r"^\s*python -m src\.([\w.]+)(.*)$", re.MULTILINE)
EXAMPLE = re.compile(r"^\| .*? \| `((?:model|experiment)=[^`]*)` \|$", re.MULTILINE)


def commands():
    """Return the commands of all pages, as (module, arguments), each once."""
    found = {}
    for page in PAGES:
        text = page.read_text()
        for module, rest in COMMAND.findall(text):
            found.setdefault((module, *shlex.split(rest, comments=True)), page.name)
        for rest in EXAMPLE.findall(text):  # of the README's table of models
            found.setdefault(("train", *shlex.split(rest)), page.name)
    return [pytest.param(*key[:1], key[1:], id=" ".join(key)) for key in found]


def jobs(arguments):
    """Return the overrides of some jobs of a sweep, so that each value is in one of them."""
    values = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        value = PLACEHOLDERS.get(value, value)
        value = re.sub(r"^range\((\d+),\d+\)$", r"\1", value)
        value = re.sub(r"^choice\((.*)\)$", r"\1", value)
        value = re.sub(r"^.*interval\(([^()]*)\)+$", r"\1", value).replace(", ", ",")
        values.append([f"{key}={part}" for part in re.split(r",(?![^\[]*\])", value)])
    for job in zip_longest(*values):
        yield [value or values[i][0] for i, value in enumerate(job)]


@pytest.mark.parametrize(("module", "arguments"), commands())
def test_documented_command_composes(module, arguments):
    config = CONFIGS.get(module, module)
    if (module, *arguments[:1]) == ("runs", "compare"):
        config, arguments = "compare", ["runs=[a,b]", *(a for a in arguments if "=" in a)]
    assert (CONF / f"{config}.yaml").exists()
    if {"--help", "-h"} & set(arguments):
        return
    options = [argument for argument in arguments if not argument.startswith("-")]
    options = [
        option for option in options if not option.startswith(("resume=", "hydra.", "hydra/"))
    ]
    if any("early_stopping." in option for option in options):  # resumed: it was there before
        options = ["model=fc", "callbacks=[default,early_stopping]", *options]
    for overrides in jobs(options):
        cfg = compose(config, [quoted(override) for override in overrides])
        check(cfg, config)


def tables():
    """Return {module: {setting: default}} of docs/commands.md; "Data": what all data sets share."""
    sections = re.split(r"^## ", (ROOT / "docs/commands.md").read_text(), flags=re.MULTILINE)
    return {
        section.partition("\n")[0].removeprefix("src."): dict(
            re.findall(r"^\| `([\w.]+)` \| `([^`]*)` \|", section, re.MULTILINE)
        )
        for section in sections
        if section.startswith(("src.", "Data\n"))
    }


@pytest.mark.parametrize("module", tables())
def test_documented_settings_are_those_of_the_command(module):
    name = "data/_base" if module == "Data" else CONFIGS.get(module, module)
    file = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=False)
    if module == "Data":
        file = {"data": file}
    for key in ("defaults", "hydra"):
        file.pop(key, None)
    flat = {}
    for key, value in file.items():
        nested = isinstance(value, dict) and value
        flat |= {f"{key}.{k}": v for k, v in value.items()} if nested else {key: value}
    shown = {key: OmegaConf.to_yaml({"x": value}).strip()[3:] for key, value in flat.items()}
    shown = {key: value.strip("'") for key, value in shown.items()}
    shown |= {key: str(value) for key, value in flat.items() if isinstance(value, list)}
    documented = tables()[module]
    if module == "train":  # the groups are listed there too
        documented = {key: value for key, value in documented.items() if key in shown}
    assert documented == shown
