"""The settings that a sweep varies, as they are written in Hydra's grammar."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from src.config.compose import first_lines, parse
from src.core.errors import UserError


class Space:
    """The overrides of a sweep, without those of Hydra itself.

    Args:
        overrides: in the order of the command line. A value such as `a,b`, `range(1,5)` or
            `interval(0, 1)` makes its key a swept one. If a key comes twice, the last one counts.

    Attributes:
        swept: the swept keys, with their overrides.
        choices: the values of each swept key as text; an interval has none.
    """

    def __init__(self, overrides: list[str]) -> None:
        parsed = parse(overrides)
        swept = {_key(o) for o in parsed if o.is_sweep_override()}
        last = {_key(o): o for o in parsed}
        self.overrides = [o for o in parsed if _key(o) not in swept or last[_key(o)] is o]
        self.swept = {_key(o): o for o in self.overrides if o.is_sweep_override()}
        try:
            self.choices = {
                key: list(o.sweep_string_iterator())
                for key, o in self.swept.items()
                if o.is_discrete_sweep()
            }
        except (HydraException, OmegaConfBaseException) as error:
            # such as glob(*) for a setting without choices, or choice(a,b),c
            raise UserError(first_lines(error)) from error
        for key, override in self.swept.items():
            if getattr(override.value(), "shuffle", False):
                raise UserError(
                    f"{override.input_line}: leave out shuffle(): a sweep runs its jobs in a fixed "
                    "order, so that it can be resumed"
                )
            if not self.choices.get(key, [""]):
                raise UserError(f"{override.input_line}: has no values")

    @property
    def intervals(self) -> list[str]:
        """The overrides whose values cannot be listed."""
        return [str(o.input_line) for key, o in self.swept.items() if key not in self.choices]

    def job(self, values: Mapping[str, str]) -> list[str]:
        """Return the overrides of one job.

        Args:
            values: the text of each swept key; other keys are added.
        """
        given = [
            f"{_key(o)}={values[_key(o)]}" if _key(o) in values else str(o.input_line)
            for o in self.overrides
        ]
        known = {_key(o) for o in self.overrides}
        return [*given, *(f"{key}={value}" for key, value in values.items() if key not in known)]

    def grid(self) -> Iterator[dict[str, str]]:
        """Yield every combination of the choices; the last key varies fastest."""
        for values in itertools.product(*(self.choices[key] for key in self.swept)):
            yield dict(zip(self.swept, values, strict=True))

    def probes(self) -> Iterator[dict[str, str]]:
        """Yield combinations that have each choice and each end of an interval once."""
        ends = {key: self.choices.get(key) or _ends(o) for key, o in self.swept.items()}
        first = {key: values[0] for key, values in ends.items()}
        yield first
        for key, values in ends.items():
            yield from ({**first, key: value} for value in values[1:])


def _key(override: Override) -> str:
    return str(override.get_key_element())


def _ends(override: Override) -> list[str]:
    value = override.value()
    assert isinstance(value, IntervalSweep)
    if value.start is None or value.end is None or value.start >= value.end:
        raise UserError(f"{override.input_line}: the first number must be below the second")
    if "log" in value.tags and value.start <= 0:
        raise UserError(f"{override.input_line}: a logarithmic interval must be above 0")
    return [repr(value.start), repr(value.end)]


def distribution(override: Override) -> Any:
    """Return the distribution of Optuna for a swept override.

    An interval is continuous, `int(interval(1, 8))` has whole numbers, a range is a grid of
    numbers, and everything else is a choice of texts. `tag(log, ...)` makes an interval
    logarithmic.
    """
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    value = override.value()
    if isinstance(value, IntervalSweep):
        is_whole = isinstance(value.start, int) and isinstance(value.end, int)
        kind: Any = IntDistribution if is_whole else FloatDistribution
        return kind(value.start, value.end, log="log" in value.tags)
    if isinstance(value, RangeSweep):
        numbers: Sequence[Any] = sorted(value.range())
        kind = FloatDistribution if isinstance(numbers[0], float) else IntDistribution
        return kind(numbers[0], numbers[-1], step=abs(value.step))
    return CategoricalDistribution(tuple(override.sweep_string_iterator()))


def suggest(trial: Any, name: str, dist: Any) -> str:
    """Return the value that a trial of Optuna has or gets for `name`, as text."""
    if hasattr(dist, "choices"):
        return str(trial.suggest_categorical(name, dist.choices))
    whole = type(dist).__name__ == "IntDistribution"
    ask = trial.suggest_int if whole else trial.suggest_float
    return repr(ask(name, dist.low, dist.high, step=dist.step, log=dist.log))
