"""The table of `src.train --summary`: the layers of each network of a model."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from src.engine.runtime import quiet
from src.models.base import Family
from src.nets.inspect import Layer, calls_with, count_parameters

HEADER = ("layer", "kind", "input", "output", "parameters", "multiply-adds")


def summary_lines(model: Family, datamodule: Any) -> list[str]:
    """Return a table for each network of `model`, for one image, and the total of the parameters.

    Args:
        model: an untrained model.
        datamodule: its data.

    Layers without parameters are left out. The total of the multiply-adds also counts products
    that no layer does, such as those of an attention.
    """
    quiet()
    trainer: Any = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.datamodule = datamodule  # some models ask it for the size of an image
    model.trainer = trainer
    trained, everything = count_parameters(model)
    model.requires_grad_(False)  # the counter cannot look into DRAW otherwise
    lines: list[str] = []
    for name, (net, inputs) in model.eval().example_inputs().items():
        rows, total = _rows(net.eval(), inputs)
        lines += [name, *_table(rows, total), ""]
    frozen = f", {everything - trained:,} of them not trained" if trained < everything else ""
    return [*lines, f"{type(model).__name__}: {everything:,} parameters{frozen}"]


def _rows(net: nn.Module, inputs: Any) -> tuple[list[Layer], int]:
    """Return the layers with parameters, and the multiply-adds of the network for one image.

    Modules whose parameters a function uses have no shapes; they come last.
    """
    with FlopCounterMode(display=False) as counter:
        calls = calls_with(net, inputs)
    n = len(inputs[0] if isinstance(inputs, tuple) else inputs)
    called = {call.name for call in calls}
    rows = [call for call in calls if call.parameters or call.multiply_adds]
    for name, module in net.named_modules():
        n_own = sum(p.numel() for p in module.parameters(recurse=False))
        if n_own and name not in called:
            rows.append(Layer(name or "itself", type(module).__name__, (), (), n_own, 0))
    return rows, counter.get_total_flops() // 2 // n


def _table(rows: Sequence[Layer], total: int) -> list[str]:
    cells: list[tuple[str, ...]] = [HEADER]
    for row in rows:
        shapes = (" x ".join(map(str, shape)) or "-" for shape in (row.shape_in, row.shape_out))
        adds = f"{row.multiply_adds:,}" if row.multiply_adds else "-"
        cells.append((row.name or "itself", row.kind, *shapes, f"{row.parameters:,}", adds))
    parameters = sum(row.parameters for row in rows)
    cells.append(("total", "", "", "", f"{parameters:,}", f"{total:,}"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if number > 3 else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
