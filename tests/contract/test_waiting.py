"""Between the batches at which it logs or draws, no family waits for the device.

Reading a value of a tensor, or an operation whose size depends on values, makes the processor wait
until a GPU has finished everything before it. A CPU shows these operations too.
"""

import traceback
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from src.config.signatures import class_attribute
from src.engine import build
from src.train import train
from tests.contract.small import class_of, fast_models, overrides, small_run

IMAGES = ("images", "two domains of images")
MODELS = sorted(m for m in fast_models() if class_attribute(class_of(m), "takes") in IMAGES)
FIRST, LAST = 4, 7  # batches without pictures and logs, counted from 0
# they read values, as does an index by a mask
READ_VALUES = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2")
ONLY_ON_A_CPU = ("nonfinite.py", "one_hot")  # they do not read values on a GPU


class Waits(TorchDispatchMode):
    """Record where operations run that wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.places = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or name in READ_VALUES:
            frames = [f for f in traceback.extract_stack() if "/src/" in f.filename]
            lines = [f"{Path(f.filename).name}:{f.lineno} {f.line}" for f in frames]
            if not any(word in line for line in lines for word in ONLY_ON_A_CPU):
                self.places.add(" < ".join(lines[:-4:-1]))
        return func(*args, **(kwargs or {}))


class During(pl.Callback):
    """Train on the batches from FIRST to before LAST inside of a context."""

    def __init__(self, context):
        self.context, self.stack = context, ExitStack()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == FIRST:
            self.stack.enter_context(self.context)
        if batch_idx == LAST:
            self.stack.close()


def train_within(context, model, inputs, folder, monkeypatch, *more):
    """Train a small model for an epoch, some of its batches inside of `context`."""
    make = build.trainer

    def trainer(*args, **kwargs):
        made = make(*args, **kwargs)
        made.callbacks.insert(0, During(context))
        return made

    monkeypatch.setattr(build, "trainer", trainer)
    words = [w for w in overrides(model, inputs) if not w.startswith("trainer.")]
    words += ["callbacks.progress.every_n_seconds=1000"]
    if "data=winter" in words:
        words += ["data.batch_size=1", "model.pool_size=3"]
    else:
        words += ["data.batch_size=4", "data.limit=32"]
    train(small_run(*words, "trainer.max_epochs=1", "test=false", *more), folder)


@pytest.mark.parametrize(
    "model", [pytest.param(m, marks=pytest.mark.slow if m == "cyclegan" else ()) for m in MODELS]
)
def test_no_batch_reads_a_value(model, inputs, tmp_path, monkeypatch):
    waits = Waits()
    train_within(waits, model, inputs, tmp_path, monkeypatch, "trainer=cpu")
    assert not waits.places


@pytest.mark.parametrize("by_value", [True, False])
def test_calls_that_wait_for_the_device_are_found(by_value):
    with Waits() as waits:
        torch.ones(1).item() if by_value else torch.arange(2)[torch.tensor([True, False])]
    assert waits.places


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("more", ["", "augment=strong", "augment=cutmix", "data.permute=true"])
@pytest.mark.parametrize("model", MODELS)
def test_no_batch_waits_for_the_gpu(model, more, inputs, tmp_path, monkeypatch):
    class Forbidden(nullcontext):
        def __enter__(self):
            torch.cuda.set_sync_debug_mode("error")

        def __exit__(self, *error):
            torch.cuda.set_sync_debug_mode("default")

    if model == "cyclegan" and "permute" in more:
        pytest.skip("CycleGAN takes images as they are")
    words = ("trainer=gpu", *more.split())
    try:
        train_within(Forbidden(), model, inputs, tmp_path, monkeypatch, *words)
    finally:
        torch.cuda.set_sync_debug_mode("default")
