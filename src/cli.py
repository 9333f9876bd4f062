"""From a command line to a checked config: what every command does before it imports anything heavy.

`launch` runs a command that makes runs (with Hydra's own multirun and launchers); `command` one that opens a finished run.
Whatever a user got wrong ends as one line on stderr and exit code 2.
"""

import os
import re
import select
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from src import run
from src.composing import CONF, complete, compose, first_lines, groups, nearest, parse, paths
from src.config import check, check_saved, family, fill
from src.errors import Incomplete, Interrupted, UserError, plain_line
from src.sweep import Sweep, Task, through_hydra

RESUMABLE = (*(f"trainer.{key}=" for key in (
                 "accelerator", "devices", "num_nodes", "strategy", "max_epochs", "max_time", "log_every_n_steps",
                 "limit_val_batches", "limit_test_batches", "num_sanity_val_steps", "deterministic",
                 "benchmark", "detect_anomaly")), "data.root=", "data.root_a=", "data.root_b=", "data.content=", "data.style=",
             "data.download=",
             "data.workers=", "test=", "cache=", "checkpoint.", "callbacks.")  # fmt: skip


def launch(config_name: str, task: Task, doc: str) -> int:
    """Run `task(cfg, folder)` for the command line, once or as a sweep; returns the exit code."""
    argv = sys.argv[1:]
    if "--help" in argv or "-h" in argv:
        return guarded(lambda: print(help_text(doc)))
    return guarded(lambda: _launch(config_name, task, argv))


def command(config_name: str, task: Callable[[DictConfig], Any], doc: str) -> int:
    """Run `task(cfg)` for the command line of a command that makes no run of its own; returns the exit code."""

    def run_it() -> None:
        if "--help" in sys.argv or "-h" in sys.argv:
            print(doc.strip())
            return
        cfg = compose(config_name, [quoted(override) for override in sys.argv[1:]])
        check(cfg)
        task(cfg)

    return guarded(run_it)


def quoted(override: str) -> str:
    """`override`, its value in quotes where Hydra's grammar cannot read it: a path may hold brackets, umlauts, a tilde."""
    key, equals, value = override.partition("=")
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        value = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", r"\'")
        return f"{key}='{value}'" if equals else override
    return override


def guarded(action: Callable[[], Any]) -> int:
    """Call `action`; turn what it raises into the line and the exit code that the user meets."""
    try:
        action()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {plain_line(error)}", file=sys.stderr)
        return 2
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
    return 0


def _closed(stream: TextIO) -> bool:
    """Is `stream` a pipe that nobody reads any more (`| head`)?"""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _launch(config_name: str, task: Task, argv: list[str]) -> None:
    args = get_args_parser().parse_args(argv)
    if args.config_name or args.config_path or args.config_dir:
        raise UserError(f"--config-name, --config-path, --config-dir: configs live in {CONF}")
    if args.cfg or args.info or args.shell_completion or args.hydra_help:
        if args.cfg or args.info:
            compose(config_name, args.overrides)
        through_hydra(config_name, lambda cfg: None)
        return
    resumed = [o for o in args.overrides if re.match(r"resume=(?!null$|$)", o)]
    if resumed and args.multirun:
        raise UserError(f"{resumed[-1]} goes on with one run: leave -m out")
    if resumed:
        folder = Path(resumed[-1].removeprefix("resume=")).expanduser()
        _resume(task, folder, [o for o in args.overrides if not o.startswith("resume=")])
        return
    jobs = _jobs(args.overrides) if args.multirun else [args.overrides]
    for overrides in jobs:
        cfg = compose(config_name, overrides)
        check(cfg)
        if (source := cfg.model.get("init_from")) not in (None, "torchvision"):
            of_words = family(cfg).takes == "sentences"
            (run.last_checkpoint if of_words else run.checkpoint_at)(Path(source).expanduser())
    folder, given = _reserved(config_name, jobs[-1], args)
    key = "hydra.sweep.dir" if args.multirun else "hydra.run.dir"
    kept = [a for a in argv if not a.startswith(f"{key}=")]
    sys.argv = [sys.argv[0], *kept, f"{key}='{folder}'"]
    if args.multirun:
        Sweep(config_name, task, folder, jobs).run()
    else:
        _run(config_name, task, folder, given)


def _reserved(config_name: str, overrides: list[str], args: Namespace) -> tuple[Path, bool]:
    """The new folder of a run or a sweep, and whether the user chose its name."""
    of_hydra = [o for o in args.overrides if o.startswith("hydra.")] if args.multirun else []
    hydra_cfg = compose(config_name, [*overrides, *of_hydra], with_hydra=True).hydra
    key = "sweep" if args.multirun else "run"
    try:
        wanted = Path(hydra_cfg[key].dir)
    except Exception as error:  # OmegaConf and each resolver raise their own
        raise UserError(f"hydra.{key}.dir: {first_lines(error)}") from error
    given = any(o.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for o in args.overrides)
    # of the processes that train one model together, the first makes the folder and tells the others
    return (run.reserve(wanted, exact=given) if run.is_first_process() else wanted), given


def _run(config_name: str, task: Task, folder: Path, given: bool) -> None:
    """Run one job in `folder`, which goes where the job fails before it trained; its parents too unless `given`."""
    raised: list[UserError] = []

    def job(cfg: DictConfig) -> Any:
        try:
            complete(cfg)
            return task(cfg, Path(HydraConfig.get().runtime.output_dir))
        except UserError as error:
            raised.append(error)  # past Hydra, which would announce it in words of its own

    try:
        through_hydra(config_name, job)
        for error in raised:
            raise error
    except UserError:
        run.discard(folder, parents=not given)
        raise


def _jobs(overrides: list[str]) -> list[list[str]]:
    """The override lists of a sweep's jobs; of a sweeper other than Hydra's basic one, the first corner of its space."""
    parsed = parse(overrides)
    own = [o for o in parsed if not o.get_key_element().lstrip("+~").startswith("hydra")]
    if any(o.is_sweep_override() and not o.is_discrete_sweep() for o in own):
        return [[o.input_line or "" for o in own if not o.is_sweep_override()]]
    try:
        return BasicSweeper.split_arguments(own, max_batch_size=None)[0]
    except HydraException as error:  # glob(*) over a setting that has no choices
        raise UserError(first_lines(error)) from error


def _resume(task: Task, folder: Path, overrides: list[str]) -> None:
    """Go on in `folder` with the configuration it was started with; where it runs, how long and what it shows may be new, and
    is remembered."""
    for override in overrides:
        if not override.startswith((*RESUMABLE, "~callbacks.")):
            raise UserError(
                f"resume: '{override}' cannot change: a resumed run keeps its own configuration; "
                f"new may be {', '.join(key.rstrip('.=') for key in RESUMABLE)}"
            )
    cfg = run.config_of(folder)
    fill(cfg)
    check_saved(cfg.copy(), run.config_path(folder))
    for override in overrides:
        _change(cfg, override)
    remembered = cfg.copy()
    cfg.resume = str(folder)
    check(cfg)
    if overrides and run.is_first_process():
        run.write_config(folder, remembered)
    task(cfg, folder)


def _change(cfg: DictConfig, override: str) -> None:
    """Do what one override of a resumed run says; `~callbacks.NAME` leaves that one out."""
    key = override.split("=")[0].lstrip("~")
    try:
        if override.startswith("~"):
            del cfg.callbacks[key.removeprefix("callbacks.")]
        else:
            OmegaConf.set_struct(cfg, True)
            cfg.merge_with(OmegaConf.from_dotlist([override]))
    except (KeyError, AttributeError) as error:
        plain = OmegaConf.to_container(cfg, resolve=False)
        assert isinstance(plain, dict)
        raise UserError(f"resume: unknown key '{key}'{nearest(key, paths(plain))}") from error
    except Exception as error:  # OmegaConf and the YAML in its values each raise their own
        raise UserError(f"resume: '{override}' cannot be used: {first_lines(error)}") from error
    finally:
        OmegaConf.set_struct(cfg, False)


def help_text(doc: str) -> str:
    """What `--help` prints: the command's own words, then each group with its choices."""
    lines = [doc.strip(), "", "Groups (GROUP=CHOICE):"]
    for group, choices in groups().items():
        lines.append(f"  {group + '=':22}{' | '.join(choices)}")
    lines += [
        "",
        "Any value: by its dotted name. -m: a sweep over comma-separated values. --cfg job: the composed config.",
    ]
    return "\n".join(lines)
