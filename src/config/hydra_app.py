"""Hydra as a library: run jobs, build launchers, and the options that print.

`hydra.main` would read the overrides from sys.argv. The application object of
`hydra.initialize_config_dir` takes them as a list and has the same methods.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from src.config.compose import CONF, first_lines, groups, settings_of
from src.core.errors import UserError, near


@contextmanager
def _application(config_name: str) -> Iterator[Any]:
    """Yield Hydra's application object for conf/. A job is named after the config."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), job_name=config_name, version_base="1.3"):
        yield GlobalHydra.instance().hydra


def run_job(config_name: str, overrides: list[str], job: Callable[[DictConfig], Any]) -> None:
    """Call `job` with the config of `overrides`.

    Hydra makes the folder of the job, writes .hydra/ there and sets HydraConfig.

    Raises:
        UserError: Hydra could not start.
    """
    started: list[bool] = []

    def marked(cfg: DictConfig) -> Any:
        started.append(True)
        return job(cfg)

    try:
        with _application(config_name) as app:
            app.run(config_name, marked, [*overrides, "hydra.mode=RUN"])
    except (UserError, OSError):
        raise
    except Exception as error:  # Hydra and its plugins can raise any exception type
        if started:
            raise
        raise UserError(f"Hydra cannot start: {first_lines(error)}") from error


@contextmanager
def launcher(
    config_name: str, overrides: list[str], job: Callable[[DictConfig], Any]
) -> Iterator[tuple[DictConfig, Launcher]]:
    """Yield the config of a sweep, and the launcher that it names, which calls `job`.

    Raises:
        UserError: Hydra could not build the launcher.
    """
    with _application(config_name) as app:
        try:
            cfg = app.compose_config(
                config_name, [*overrides, "hydra.mode=MULTIRUN"], run_mode=RunMode.MULTIRUN,
                with_log_configuration=True,
            )  # fmt: skip
            context = HydraContext(app.config_loader, Callbacks(cfg))
            built = Plugins.instance().instantiate_launcher(context, job, cfg)
        except (UserError, OSError):
            raise
        except Exception as error:  # Hydra and its plugins can raise any exception type
            raise UserError(f"Hydra cannot start: {first_lines(error)}") from error
        yield cfg, built


class OneLineParser(ArgumentParser):
    """A parser whose errors are one line, not the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists options and settings)")


def parse_options(config_name: str, argv: list[str]) -> Namespace:
    """Parse the arguments of a command. Raises UserError for an option that does not exist."""
    args, unknown = parser().parse_known_intermixed_args(argv)
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0]
        known = [*groups(), *settings_of(config_name)]
        hint = near(name, known).replace("?", "=...?") or "; a setting is written NAME=VALUE"
        raise UserError(f"unknown option {unknown[0]}{hint} (--help lists options and settings)")
    return args


def parser() -> ArgumentParser:
    """Return a parser for the options that Hydra has, except --help."""
    options = OneLineParser(add_help=False)
    options.add_argument("overrides", nargs="*", help="settings as key=value")
    add = options.add_argument
    add("--multirun", "-m", action="store_true", help="run a sweep over values with commas")
    add("--run", "-r", action="store_true", help="run one job, the default")
    add("--cfg", "-c", choices=["job", "hydra", "all"], help="print the composed config")
    add("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    add("--package", "-p", help="with --cfg: print only this node")
    kinds = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    add("--info", "-i", nargs="?", const="all", choices=kinds, help="print how a config composes")
    add("--hydra-help", action="store_true", help="print Hydra's own help")
    add("--version", action="store_true", help="print Hydra's version")
    add("--shell-completion", "-sc", action="store_true", help="with install=SHELL: print a script")
    add("--summary", action="store_true", help="print the layers of the model")
    for name, short in (("path", "p"), ("name", "n"), ("dir", "d")):
        add(f"--config-{name}", f"-c{short}", help="not supported")
    return options


def prints(args: Namespace) -> bool:
    """Return whether an option asks Hydra to print something instead of running a job.

    Raises UserError for options that exclude each other.
    """
    actions = {
        "--run": args.run,
        "--multirun": args.multirun,
        "--cfg": args.cfg,
        "--info": args.info,
        "--summary": args.summary,
        "--shell-completion": args.shell_completion,
    }
    if len(given := [option for option, value in actions.items() if value]) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other: give one of them")
    if args.resolve and not args.cfg:
        raise UserError("--resolve needs --cfg")
    others = (
        args.summary,
        args.cfg,
        args.info,
        args.shell_completion,
        args.hydra_help,
        args.version,
    )
    return any(others)


def show(config_name: str, args: Namespace, overrides: list[str]) -> None:
    """Print what an option such as --cfg asks for. Raises UserError if Hydra cannot do that."""
    try:
        with _application(config_name) as app:
            if args.version:
                print(f"Hydra {hydra.__version__}")
            elif args.hydra_help:
                args.overrides = []  # they are those of a job
                app.hydra_help(config_name, parser(), args)
            elif args.cfg:
                app.show_cfg(config_name, overrides, args.cfg, args.package, args.resolve)
            elif args.info:
                app.show_info(args.info, config_name, overrides)
            else:
                app.shell_completion(config_name, overrides)
    except Exception as error:  # Hydra and its plugins can raise any exception type
        raise UserError(f"Hydra: {first_lines(error)}") from error
