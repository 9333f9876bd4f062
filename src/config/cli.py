"""Turn a command line into a checked config and run the command.

`launch` is for commands that start runs, with Hydra's multirun and launchers. `command` is for
those that use a finished run. A mistake of the user ends in one line on stderr and exit code 2.
"""

import io
import os
import re
import select
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig

from src.config import hydra_app
from src.config.checks import check
from src.config.compose import (
    CONF,
    HYDRA_GROUPS,
    compose,
    first_lines,
    groups,
    new_keys,
)
from src.config.inputs import expect_data, expect_packages, expect_pretrained
from src.config.jobs import Task, command_line, run_once
from src.config.overrides import quoted, setting, value_of
from src.config.recipe import with_recipe
from src.config.resume import resume_run
from src.core import new_runs, run_record, runs, signals, slurm
from src.core.errors import (
    Incomplete,
    Interrupted,
    TrainingFailed,
    UserError,
    os_failure,
    user_error_line,
    writing,
)
from src.core.run_search import is_sweep, requeued_runs

# (config_name, task, overrides, folder of the sweep to continue) -> None
SweepFunction = Callable[[str, Task, list[str], "RunFolder"], None]

Summarize = Callable[[DictConfig], Any]


def launch(
    config_name: str,
    task: Task,
    sweep: "SweepFunction",
    doc: str,
    summarize: Summarize | None = None,
) -> int:
    """Run `task(cfg, folder)` for the command line, once or as a sweep; return the exit code.

    With the option --summary, `summarize(cfg)` prints the layers of the model instead.
    """
    argv = sys.argv[1:]
    if "--help" in argv or "-h" in argv:
        return guarded(lambda: print(help_text(doc)))
    return guarded(lambda: _launch(config_name, task, sweep, summarize, argv))


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
        slurm.requeue_if_preempted()
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


def _launch(
    config_name: str,
    task: Task,
    sweep: "SweepFunction",
    summarize: Summarize | None,
    argv: list[str],
) -> None:
    args = hydra_app.parse_options(config_name, argv)
    args.multirun |= "hydra.mode=MULTIRUN" in args.overrides
    args.overrides = with_recipe(args.overrides)
    args.overrides = [quoted(override, sweep=args.multirun) for override in args.overrides]
    if args.config_name or args.config_path or args.config_dir:
        raise UserError(
            f"--config-name, --config-path and --config-dir do not work: configs live in {CONF}"
        )
    if hydra_app.prints(args):
        if args.summary and summarize is not None:
            summarize(check_job(config_name, args.overrides))
        else:
            _show(config_name, args)
        return
    resumed = [o for o in args.overrides if re.match(r"resume=(?!null$|$)", o)]
    run_folder = RunFolder()
    with signals.exit_on_signals(run_folder.clean_up, is_rank=not runs.is_first_process()):
        if resumed:
            folder = Path(value_of(resumed[-1]) or resumed[-1].removeprefix("resume="))
            run_folder.folder = folder
            # Lightning starts the other processes of a run with it; `last` may be another one then
            sys.argv = [f"resume={folder}" if a.startswith("resume=") else a for a in sys.argv]
            changes = [o for o in args.overrides if not o.startswith("resume=")]
            if is_sweep(folder):
                sweep(config_name, task, changes, run_folder)
            elif args.multirun:
                raise UserError(f"{resumed[-1]} is not a sweep, but a single run: remove -m")
            else:
                resume_run(task, folder, changes)
        elif args.multirun:
            sweep(config_name, task, args.overrides, run_folder)
        else:
            start(config_name, task, args.overrides, run_folder)


def _show(config_name: str, args: Namespace) -> None:
    """Print what an option such as --cfg asks for."""
    overrides = args.overrides
    if args.cfg or args.info:
        cfg = compose(config_name, overrides)
        if opened := new_keys(config_name, overrides):
            check(cfg, config_name)
        overrides = with_new_keys(overrides, opened)
    hydra_app.show(config_name, args, overrides)


def start(config_name: str, task: Task, overrides: list[str], run_folder: "RunFolder") -> None:
    """Check the config of a run, make its folder and run it."""
    cfg = check_job(config_name, overrides)
    wanted = run_folder.wanted(config_name, overrides, "hydra.run.dir")
    for folder in requeued_runs(wanted if run_folder.is_named else Path(cfg.out)):
        if run_record.read(folder)["sessions"][0].get("command") == command_line():
            if runs.is_first_process():
                print(f"Slurm has requeued job {slurm.job_id()}: resuming {folder}")
            run_folder.folder = folder
            resume_run(task, folder, [])
            return
    with run_folder.reserved(wanted, "hydra.run.dir") as folder:
        overrides = with_new_keys(overrides, new_keys(config_name, overrides))
        overrides = [o for o in overrides if not o.startswith("hydra.run.dir=")]
        overrides.append(setting("hydra.run.dir", folder))
        run_once(config_name, overrides, task, folder, run_folder.is_named)


def check_job(config_name: str, overrides: list[str]) -> DictConfig:
    """Return the config of a run. Raises UserError if something is wrong with it."""
    for override in overrides if runs.is_first_process() else ():  # Lightning sets it for others
        if re.match(r"hydra\.output_subdir=(?!\.hydra$)", override):
            raise UserError(f"{override}: must be .hydra, where all commands read a run's config")
    cfg = compose(config_name, overrides)
    check(cfg, config_name)
    expect_data(cfg.data)
    expect_pretrained(cfg)
    expect_packages(cfg)
    return cfg


def with_new_keys(overrides: list[str], keys: set[str]) -> list[str]:
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

    def wanted(self, config_name: str, overrides: list[str], key: str) -> Path:
        """Return the folder that the setting `key` names."""
        hydra_cfg = compose(config_name, overrides, with_hydra=True).hydra
        try:
            wanted = Path(hydra_cfg["sweep" if key == "hydra.sweep.dir" else "run"].dir)
        except Exception as error:  # OmegaConf and each resolver can raise any exception type
            raise UserError(f"{key}: {first_lines(error)}") from error
        self.is_named = any(o.startswith(f"{key}=") for o in overrides)
        if slurm.tasks() > 1 and not self.is_named:  # their clocks may give it two names
            raise UserError(
                f"{slurm.tasks()} tasks of one srun train one model: name its folder with {key}=DIR"
            )
        return wanted

    @contextmanager
    def reserved(self, wanted: Path, key: str) -> Iterator[Path]:
        """Make the new folder that the setting `key` names, and lock it.

        The first process of a run creates it, and passes its name on to the others.
        """
        self.folder = wanted
        with ExitStack() as stack:
            if runs.is_first_process():
                with writing(f"{key}={wanted}", "choose another folder with out=DIR"):
                    found = new_runs.reserved(wanted, exact=self.is_named)
                    self.folder = stack.enter_context(found)
            yield self.folder

    def clean_up(self, signal_name: str) -> str:
        """Remove a folder that holds no training; return a line for the user."""
        if not runs.is_first_process():
            return ""
        slurm.requeue_if_preempted()
        if self.folder is None or not self.folder.exists():
            return f"{signal_name}: stopped"
        if runs.holds_training(self.folder):
            return f"{signal_name}: stopped; resume with: {runs.resume_command(self.folder)}"
        new_runs.discard(self.folder, parents=not self.is_named)
        return f"{signal_name}: stopped before training started; nothing was saved"


def help_text(doc: str) -> str:
    """Return the text of `--help`: the command's docstring, and each group with its choices."""
    lines = [doc.strip(), "", "Groups (GROUP=CHOICE):"]
    for group, choices in groups().items():
        lines.append(f"  {group + '=':22}{' | '.join(choices)}")
    for group, extras in HYDRA_GROUPS.items():
        lines.append(f"  {group + '=':22}{' | '.join(extras)}")
    lines += [
        "",
        "Any setting: DOTTED.NAME=VALUE, as in model.optimizer.lr=2e-4",
        "-m: run a sweep over values with commas. --cfg job: print the composed config.",
        "--summary: print the layers of the model.",
    ]
    return "\n".join(lines)
