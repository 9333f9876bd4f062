"""From a command line to a checked config: what every command does before it imports anything heavy.

`launch` runs a command that makes runs (with Hydra's own multirun and launchers); `command` one that opens a finished run.
Whatever a user got wrong ends as one line on stderr and exit code 2.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from src import run, signals
from src.config import CONF, check, compose, family, groups
from src.errors import (
    Incomplete,
    Interrupted,
    TrainingFailed,
    UserError,
    refusal,
    writing,
)

Task = Callable[[DictConfig, Path], Any]
RESUMABLE = (*(f"trainer.{key}=" for key in (
                 "accelerator", "devices", "num_nodes", "strategy", "max_epochs", "max_time", "log_every_n_steps",
                 "limit_val_batches", "limit_test_batches", "num_sanity_val_steps", "deterministic",
                 "benchmark", "detect_anomaly")), "data.root=", "data.root_a=", "data.root_b=", "data.content=", "data.style=",
             "data.download=",
             "data.workers=", "test=", "on_nonfinite=", "cache=", "checkpoint.", "callbacks.")  # fmt: skip


def launch(config_name: str, task: Task, doc: str) -> int:
    """Run `task(cfg, folder)` for the command line, once or as a sweep; returns the exit code."""
    argv = sys.argv[1:]
    if "--help" in argv or "-h" in argv:
        print(help_text(doc))
        return 0
    return guarded(lambda: _launch(config_name, task, argv))


def command(config_name: str, task: Callable[[DictConfig], Any], doc: str) -> int:
    """Run `task(cfg)` for the command line of a command that makes no run of its own; returns the exit code."""
    if "--help" in sys.argv or "-h" in sys.argv:
        print(doc.strip())
        return 0

    def run_it() -> None:
        signals.install(signals.raise_interrupted)
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
    except UserError as error:
        line = (
            str(error).rstrip().rpartition("src.errors.UserError: ")[2]
        )  # a DataLoader's worker puts its traceback before
        print(f"error: {line}", file=sys.stderr)
        return 2
    except TrainingFailed as error:
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
    except Exception as error:
        if (refused := refusal(error)) is None:
            raise
        print(f"error: {refused.reason}: {refused.advice}", file=sys.stderr)
        return 1
    return 0


def _launch(config_name: str, task: Task, argv: list[str]) -> None:
    folder: Path | None = None  # of the run or sweep
    given = True  # the user named it

    def stop_line(name: str) -> str:
        """Remove a folder that holds no training; return what a person needs to know."""
        if not run.is_first_process():
            return ""
        if folder is None or not folder.exists():
            return f"{name}: stopped"
        if run.holds_training(folder):
            return f"{name}: stopped; go on with: python -m src.train resume={folder}"
        run.discard(folder, parents=not given)
        return f"{name}: stopped before anything was trained; nothing was kept"

    args = get_args_parser().parse_args(argv)
    with signals.exit_on_signals(stop_line, is_rank=not run.is_first_process()):
        if not (args.cfg or args.info or args.shell_completion or args.hydra_help):
            resumed = [
                o
                for o in args.overrides
                if o.startswith("resume=") and o not in ("resume=null", "resume=")
            ]
            if resumed and not args.multirun:
                folder = Path(resumed[-1].removeprefix("resume=")).expanduser()
                _resume(task, folder, [o for o in args.overrides if not o.startswith("resume=")])
                return
            for overrides in _jobs(args.overrides) if args.multirun else [args.overrides]:
                cfg = compose(config_name, overrides)
                check(cfg)
                if (source := cfg.model.get("init_from")) not in (None, "torchvision"):
                    of_words = family(cfg).takes == "sentences"
                    (run.last_checkpoint if of_words else run.checkpoint_at)(
                        Path(source).expanduser()
                    )
            of_hydra = (
                [o for o in args.overrides if o.startswith("hydra.")] if args.multirun else []
            )
            hydra_cfg = compose(config_name, [*overrides, *of_hydra], with_hydra=True).hydra
            wanted = Path(hydra_cfg.sweep.dir if args.multirun else hydra_cfg.run.dir)
            given = any(
                o.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for o in args.overrides
            )
            # of the processes that train one model together, the first makes the folder and tells the others
            key = "hydra.sweep.dir" if args.multirun else "hydra.run.dir"
            with writing(f"{key}={wanted}", "out=DIR puts runs elsewhere"):
                folder = run.reserve(wanted, exact=given) if run.is_first_process() else wanted
            sys.argv = [
                sys.argv[0],
                *(a for a in argv if not a.startswith(f"{key}=")),
                f"{key}='{folder}'",
            ]
        _run_hydra(config_name, task, folder, given, args.multirun)


def _run_hydra(
    config_name: str, task: Task, folder: Path | None, given: bool, multirun: bool
) -> None:
    """Have Hydra run the task, once or as a sweep, into `folder`."""
    raised: list[Exception] = []

    def job(cfg: DictConfig) -> Any:
        try:
            return _alone(task, cfg, Path(HydraConfig.get().runtime.output_dir))
        except (UserError, TrainingFailed) as error:
            if multirun:
                raise
            raised.append(error)  # past Hydra, which would announce it in words of its own

    wants_traceback = "HYDRA_FULL_ERROR" in os.environ
    # Hydra then raises instead of printing tracebacks of its own
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with _saying_what_is_safe(folder or Path()):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)()
        for error in raised:
            raise error
    except (UserError, TrainingFailed):
        if folder is not None:
            run.discard(folder, parents=not given)
        raise
    finally:
        if not wants_traceback:
            del os.environ["HYDRA_FULL_ERROR"]


def _alone(task: Task, cfg: DictConfig, folder: Path) -> Any:
    """Run `task` in `folder`, which no other process may use meanwhile."""
    with _saying_what_is_safe(folder), run.locked(folder):
        try:
            return task(cfg, folder)
        except RuntimeError as error:
            # a collective that fails: gloo raises plain RuntimeErrors, others a DistError
            words = f"{type(error).__name__} {error}".lower()
            if not any(word in words for word in ("gloo", "nccl", "dist")):
                raise
            raise TrainingFailed(
                "another process of this run has ended, so it cannot go on; start it again with: "
                f"python -m src.train resume={folder}"
            ) from error


@contextmanager
def _saying_what_is_safe(folder: Path) -> Iterator[None]:
    """Turn what the machine refuses the run in `folder` into the line from where the run can go on."""
    try:
        yield
    except (UserError, TrainingFailed, Incomplete):
        raise
    except Exception as error:
        if (refused := refusal(error)) is None:
            raise
        safe = "nothing is saved yet"
        again = "start the run again"
        with suppress(UserError):
            from src.build import batches_done

            safe = f"the checkpoint of batch {batches_done(run.load_last(folder))} is whole"
            again = f"go on with: python -m src.train resume={folder}"
        raise TrainingFailed(f"{refused.reason}; {safe}: {refused.advice}, then {again}") from error


def _jobs(overrides: list[str]) -> list[list[str]]:
    """The override lists of a sweep's jobs; of a sweeper other than Hydra's basic one, the first corner of its space."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    own = [o for o in parsed if not o.get_key_element().lstrip("+~").startswith("hydra")]
    if any(o.is_sweep_override() and not o.is_discrete_sweep() for o in own):
        return [[o.input_line or "" for o in own if not o.is_sweep_override()]]
    return BasicSweeper.split_arguments(own, max_batch_size=None)[0]


def _resume(task: Task, folder: Path, overrides: list[str]) -> None:
    """Go on in `folder` with the configuration it was started with; where it runs, how long and what it shows may be new, and
    is remembered."""
    for override in overrides:
        if not override.startswith(RESUMABLE):
            raise UserError(
                f"resume: '{override}' cannot change: a resumed run keeps its own configuration; "
                f"new may be {', '.join(key.rstrip('.=') for key in RESUMABLE)}"
            )
    cfg = run.config_of(folder)
    try:
        changes = OmegaConf.from_dotlist(overrides)
        OmegaConf.set_struct(cfg, True)
        cfg.merge_with(changes)
    except Exception as error:  # OmegaConf and the YAML in its values each raise their own
        raise UserError(f"resume: {str(error).splitlines()[0]}") from error
    remembered = cfg.copy()
    cfg.resume = str(folder)
    check(cfg)
    if overrides and run.is_first_process():
        with _saying_what_is_safe(folder):
            run.write_config(folder, remembered)
    _alone(task, cfg, folder)


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
