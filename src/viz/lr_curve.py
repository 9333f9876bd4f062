"""The picture of a learning rate range test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.core.files import write_atomically
from src.viz import axes

WIDTH, HEIGHT = 700, 420  # pixels
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 12, 44  # margins around the axes


def save_lr_curve(
    rates: Sequence[float],
    losses: Sequence[float],
    smooth: Sequence[float],
    chosen: float | None,
    path: Path,
) -> None:
    """Write the losses over a logarithmic axis of learning rates.

    Args:
        rates, losses, smooth: N learning rates, their losses, and these smoothed.
        chosen: a rate to mark; None: none.
        path: the picture; its extension gives the format.
    """

    def paint(figure: Any) -> None:
        size = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)
        axis = axes.place(figure, LEFT, TOP, *size)
        axis.plot(rates, losses, color="C0", alpha=0.3, linewidth=1, label="loss of each batch")
        axis.plot(rates, smooth, color="C0", linewidth=2, label="smoothed")
        if chosen is not None:
            axis.axvline(chosen, color="C3", linestyle="--", label=f"steepest at {chosen:.2g}")
        low, high = min(smooth), max(smooth[: max(1, len(smooth) // 2)])
        margin = 0.5 * (high - low) or abs(high) or 1.0
        axis.set_ylim(low - 0.3 * margin, high + margin)  # the end of the curve may be far above
        axes.use_log_scale(axis, "x")
        axis.set_xlabel("learning rate")
        axis.set_ylabel("training loss")
        axis.grid(alpha=0.3)
        axis.legend()

    form = path.suffix.removeprefix(".").lower()
    content = axes.draw_file(WIDTH, HEIGHT, [], paint, form)
    write_atomically(path, lambda to: to.write_bytes(content))
