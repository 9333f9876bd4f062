"""Name what our loop spends its time on."""

import time
from collections import defaultdict
from collections.abc import Callable

from pytorch_lightning.profilers import Profiler

from src.callbacks.profiling import short, table

SHOWN = 5
OUTSIDE = "outside of all hooks: Lightning's loop"


class SelfTimes(Profiler):
    """Measure the time of each action of the Trainer without that of the actions inside it.

    Attributes:
        is_on: whether time counts.
        seconds: time by action.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_on = False
        self.seconds: dict[str, float] = defaultdict(float)
        self.running: list[str] = []
        self.mark = time.perf_counter()

    def start(self, action_name: str) -> None:
        self._count()
        self.running.append(action_name)

    def stop(self, action_name: str) -> None:
        self._count()
        if action_name in self.running:
            self.running.remove(action_name)

    def _count(self) -> None:
        """Add the time since the last event to the innermost action."""
        now = time.perf_counter()
        if self.is_on:
            self.seconds[self.running[-1] if self.running else OUTSIDE] += now - self.mark
        self.mark = now


def print_costs(run: Callable[..., float], batches: int) -> None:
    """Run our loop with a profiler; print its largest costs per batch.

    Args:
        run: the loop; it takes the argument `profiler`.
        batches: that it measures.
    """
    profiler = SelfTimes()
    run(profiler=profiler)
    total = sum(profiler.seconds.values())
    largest = sorted(profiler.seconds.items(), key=lambda item: -item[1])[:SHOWN]
    rows = [
        [short(_meaning(name)), f"{1000 * value / batches:.3f}", f"{100 * value / total:.1f}%"]
        for name, value in largest
    ]
    print(f"the {SHOWN} largest costs of ours, of {1000 * total / batches:.2f} ms per batch:")
    for line in table(("action, without those inside it", "ms", "share"), rows):
        print(f"  {line}")


def _meaning(action: str) -> str:
    """Return the name of an action of Lightning, with an explanation where it needs one."""
    meanings = {
        ".training_step": "forward pass and loss",
        ".backward": "backward pass",
        ".optimizer_step": "optimizer",
        "dataloader_next": "reading the batch",
        ".on_after_batch_transfer": "conversion and augmentation",
        "run_training_batch": "Lightning's closures",
    }
    for end, meaning in meanings.items():
        if action.endswith(end):
            return f"{action}: {meaning}"
    return action
