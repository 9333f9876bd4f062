"""Values and pictures on their way to a tracking service. A resumed run sends none twice."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from src.core.errors import optional
from src.core.files import write_atomically

SECONDS = 10.0  # between transmissions, unless a checkpoint is written


class Point(NamedTuple):
    """A number, or a picture uint8 (H, W) or (H, W, 3), after so many batches."""

    batches: int
    tag: str
    value: Any


class Outbox:
    """Points that wait to be sent, and a record of those that were.

    A resumed run computes again what an interrupted session logged after the checkpoint. The record
    says how far earlier sessions got, so that `add` ignores their points, and which numbers they
    could not send.

    Args:
        path: file of the record, in the run's folder.

    Attributes:
        run_id: the service's name of the run; None: not known yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id: str | None = None
        self.waiting: dict[tuple[int, str], Any] = {}
        self.sent = time.monotonic()
        self.batches, self.tags = -1, set[str]()
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            self.run_id = record["run_id"]
            self.batches, self.tags = record["batches"], set(record["tags"])
            for batches, tag, value in record.get("unsent", ()):
                self.waiting[batches, tag] = value
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a new run, or a damaged record: the service gets a new run
        self.before = self.batches, frozenset(self.tags)

    def add(self, batches: int, values: dict[str, Any]) -> None:
        """Let `values` wait, without those that were sent.

        A later value for the same tag and number of batches replaces one that waits.
        """
        done, tags = self.before
        for tag, value in values.items():
            is_old = batches < done or (batches == done and tag in tags)
            is_sent = batches == self.batches and tag in self.tags
            if not (is_old or is_sent):
                self.waiting[batches, tag] = value

    @property
    def is_due(self) -> bool:
        """Whether points have waited for long."""
        return bool(self.waiting) and time.monotonic() - self.sent > SECONDS

    def take(self) -> list[Point]:
        """Return the waiting points, after recording them as sent."""
        points = [Point(*key, value) for key, value in self.waiting.items()]
        self.waiting, self.sent = {}, time.monotonic()
        for batches, tag, _ in points:
            if batches > self.batches:
                self.batches, self.tags = batches, set()
            if batches == self.batches:
                self.tags.add(tag)
        if points:
            self.write()
        return points

    def put_back(self, points: list[Point]) -> None:
        """Let points wait that could not be sent, and record the numbers among them."""
        self.waiting = {point[:2]: point.value for point in points} | self.waiting
        self.write([list(point) for point in points if isinstance(point.value, float)])

    def write(self, unsent: Sequence[list[Any]] = ()) -> None:
        """Write the record. Without it, a resumed run would send some points again."""
        record = {
            "run_id": self.run_id,
            "batches": self.batches,
            "tags": sorted(self.tags),
            "unsent": unsent,
        }
        text = json.dumps(record) + "\n"
        with optional(f"could not write {self.path.name}", self.path.parent):
            write_atomically(self.path, lambda path: path.write_text(text, encoding="utf-8"))
