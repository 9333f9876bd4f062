"""Turn a command line into a checked config and run the command.

`launch` is for commands that start runs, with Hydra's multirun and launchers. `command` is for
those that use a finished run. A mistake of the user ends in one line on stderr and exit code 2.
"""

import io
import itertools
import os
import re
import select
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from src.config import hydra_app
from src.config.checks import check
from src.config.compose import (
    CONF,
    compose,
    first_lines,
    groups,
    new_keys,
    parse,
)
from src.config.inputs import expect_data, expect_packages, expect_pretrained
from src.config.jobs import Sweep, Task, run_once
from src.config.overrides import quoted, setting, value_of
from src.config.resume import resume_run
from src.core import runs, signals
from src.core.errors import (
    Incomplete,
    Interrupted,
    TrainingFailed,
    UserError,
    os_failure,
    user_error_line,
    writing,
)


def launch(config_name: str, task: Task, doc: str) -> int:
    """Run `task(cfg, folder)` for the command line, once or as a sweep; return the exit code."""
    argv = sys.argv[1:]
    if "--help" in argv or "-h" in argv:
        return guarded(lambda: print(help_text(doc)))
    return guarded(lambda: _launch(config_name, task, argv))


def command(
    config_name: str,
    task: Callable[[DictConfig], Any],
    doc: str,
    argv: Sequence[str] | Callable[[], Sequence[str]] | None = None,
) -> int:
    """Run `task(cfg)` for the command line; return the exit code.

    Args:
        argv: the overrides, or a function that returns them and may raise UserError; None: those
            of the command line.
    """

    def run_it() -> None:
        if "--help" in sys.argv or "-h" in sys.argv:
            print(doc.strip())
            return
        given = sys.argv[1:] if argv is None else argv() if callable(argv) else argv
        signals.install(signals.raise_interrupted)
        cfg = compose(config_name, [quoted(override) for override in given])
        check(cfg, config_name)
        task(cfg)

    return guarded(run_it)


def guarded(action: Callable[[], Any]) -> int:
    """Call `action`; print its error as one line and return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may have characters it cannot write
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        action()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {user_error_line(error)}", file=sys.stderr)
        return 2
    except TrainingFailed as error:
        if runs.is_first_process():
            print(f"error: {error}", file=sys.stderr)
        return 1
    except Incomplete as rest:
        print(rest, file=sys.stderr)
        return 1
    except Interrupted as stop:
        if str(stop):
            print(stop, file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        closed = [name for name in ("stdout", "stderr") if _closed(getattr(sys, name))]
        if not closed:
            raise
        for name in closed:  # Python flushes them at the very end
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
        return 128 + signal.SIGPIPE
    except Exception as error:  # one line if the system failed, else raised again
        if (failure := os_failure(error)) is None:
            raise
        print(f"error: {failure.reason}: {failure.advice}", file=sys.stderr)
        return 1
    return 0


def _closed(stream: TextIO) -> bool:
    """Return whether `stream` is a pipe whose reader has ended (`| head`)."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _launch(config_name: str, task: Task, argv: list[str]) -> None:
    args = hydra_app.parse_options(config_name, argv)
    args.multirun |= "hydra.mode=MULTIRUN" in args.overrides
    args.overrides = [quoted(override, sweep=args.multirun) for override in args.overrides]
    if args.config_name or args.config_path or args.config_dir:
        raise UserError(
            f"--config-name, --config-path and --config-dir do not work: configs live in {CONF}"
        )
    if hydra_app.prints(args):
        _show(config_name, args)
        return
    resumed = [o for o in args.overrides if re.match(r"resume=(?!null$|$)", o)]
    if resumed and args.multirun:
        raise UserError(f"{resumed[-1]} continues a single run: remove -m")
    run_folder = RunFolder()
    with signals.exit_on_signals(run_folder.clean_up, is_rank=not runs.is_first_process()):
        if resumed:
            run_folder.folder = Path(value_of(resumed[-1]) or resumed[-1].removeprefix("resume="))
            # Lightning starts the other processes of a run with it; `last` may be another one then
            sys.argv = [
                f"resume={run_folder.folder}" if word.startswith("resume=") else word
                for word in sys.argv
            ]
            changes = [o for o in args.overrides if not o.startswith("resume=")]
            resume_run(task, run_folder.folder, changes)
        else:
            _start(config_name, task, args, run_folder)


def _show(config_name: str, args: Namespace) -> None:
    """Print what an option such as --cfg asks for."""
    overrides = args.overrides
    if args.cfg or args.info:
        cfg = compose(config_name, overrides)
        if opened := new_keys(config_name, overrides):
            check(cfg, config_name)
        overrides = _with_new_keys(overrides, opened)
    hydra_app.show(config_name, args, overrides)


def _start(config_name: str, task: Task, args: Namespace, run_folder: "RunFolder") -> None:
    """Check the config of each job, make the folder and run the jobs."""
    jobs = _jobs(args.overrides) if args.multirun else [args.overrides]
    for overrides in jobs:
        cfg = compose(config_name, overrides)
        check(cfg, config_name)
        expect_data(cfg.data)
        expect_pretrained(cfg)
        expect_packages(cfg)
    key = "hydra.sweep.dir" if args.multirun else "hydra.run.dir"
    folder, run_folder.is_named = _reserved(config_name, jobs[-1], args, key)
    run_folder.folder = folder
    overrides = _with_new_keys(args.overrides, new_keys(config_name, jobs[0]))
    overrides = [override for override in overrides if not override.startswith(f"{key}=")]
    overrides.append(setting(key, folder))
    if args.multirun:
        sys.argv.append(overrides[-1])  # Lightning starts the other processes of a job with it
        Sweep(config_name, overrides, task, folder, jobs).run()
    else:
        run_once(config_name, overrides, task, folder, run_folder.is_named)


def _with_new_keys(overrides: list[str], keys: set[str]) -> list[str]:
    """Return `overrides` with ++ before each one that sets one of `keys`, which Hydra needs."""
    return [f"++{o}" if o.partition("=")[0] in keys else o for o in overrides]


class RunFolder:
    """The folder of a run or sweep, for the signal handler that ends it.

    Attributes:
        folder: None before it is created.
        is_named: whether the user chose its name; then empty folders above it are kept.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.is_named = True

    def clean_up(self, signal_name: str) -> str:
        """Remove a folder that holds no training; return a line for the user."""
        if not runs.is_first_process():
            return ""
        if self.folder is None or not self.folder.exists():
            return f"{signal_name}: stopped"
        if runs.holds_training(self.folder):
            return f"{signal_name}: stopped; resume with: python -m src.train resume={self.folder}"
        runs.discard(self.folder, parents=not self.is_named)
        return f"{signal_name}: stopped before training started; nothing was saved"


def _reserved(
    config_name: str, overrides: list[str], args: Namespace, key: str
) -> tuple[Path, bool]:
    """Return the new folder of a run or a sweep, and whether the user chose its name."""
    extra = [o for o in args.overrides if o.startswith(("hydra.", "hydra/"))]
    overrides = [*overrides, *extra] if args.multirun else overrides  # a job's lack these
    hydra_cfg = compose(config_name, overrides, with_hydra=True).hydra
    try:
        wanted = Path(hydra_cfg["sweep" if args.multirun else "run"].dir)
    except Exception as error:  # OmegaConf and each resolver can raise any exception type
        raise UserError(f"{key}: {first_lines(error)}") from error
    is_named = any(o.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for o in args.overrides)
    if not runs.is_first_process():  # the first process creates it and passes its name on
        return wanted, is_named
    with writing(f"{key}={wanted}", "choose another folder with out=DIR"):
        return runs.reserve(wanted, exact=is_named), is_named


def _jobs(overrides: list[str]) -> list[list[str]]:
    """Return the overrides of each job of a sweep.

    A sweeper that searches has no list of jobs: return one job, without the settings it varies.
    """
    parsed = parse(overrides)
    own = [o for o in parsed if not o.get_key_element().lstrip("+~").startswith("hydra")]
    if any(o.is_sweep_override() and not o.is_discrete_sweep() for o in own):
        return [[o.input_line or "" for o in own if not o.is_sweep_override()]]
    try:
        choices = {o.get_key_element(): _values(o) for o in own}
        pairs = [[f"{key}={value}" for value in values] for key, values in choices.items()]
        return [list(job) for job in itertools.product(*pairs)]
    except HydraException as error:  # glob(*) for a setting that has no choices
        raise UserError(first_lines(error)) from error


def _values(override: Override) -> list[str]:
    """Return the values that one override of a sweep runs through."""
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


def help_text(doc: str) -> str:
    """Return the text of `--help`: the command's docstring, and each group with its choices."""
    lines = [doc.strip(), "", "Groups (GROUP=CHOICE):"]
    for group, choices in groups().items():
        lines.append(f"  {group + '=':22}{' | '.join(choices)}")
    lines += [
        "",
        "Any setting: DOTTED.NAME=VALUE, as in model.optimizer.lr=2e-4",
        "-m: run a sweep over values with commas. --cfg job: print the composed config.",
    ]
    return "\n".join(lines)
