"""The contract of all models: what the commands, the callbacks and the config checks rely on."""

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from src.core.errors import UserError
from src.nets.cuda_graph import Replay, can_record

COMPILERS = ("g++", "clang++", "c++")


class Family(pl.LightningModule):
    """Base of all models. Write `training_step` and `configure_optimizers`; override what differs.

    `docs/adding-a-model.md` has a worked example, `tests/contract/` tests every model in
    `conf/model/` against this page.

    Steps:
        configure_optimizers(): returns one optimizer, or a list as long as `optimizer_names`.
            Build each by calling the `optimizer` that `__init__` gets from the config.
        training_step(batch, batch_idx): returns a flat dict of scalars. With one optimizer it has
            the key `loss`, which Lightning minimizes; a model with several optimizers sets
            `self.automatic_optimization = False` and steps them itself. Every
            `trainer.log_every_n_steps` batches each value is logged as `train/KEY`, so detach all
            but `loss`. Keys that end in `loss` are shown on the progress bar. A model with the
            setting `cuda_graph` calls its networks by `replayed`.
        validation_step, test_step(batch, batch_idx): optional; log means with
            `self.log_means({"val/NAME": value}, n)`, `test/NAME` in the test. They run in float32,
            whatever the precision of training.

    Names: losses end in `_loss`, nats per image in `_nats`; accuracies are fractions. A likelihood
    model logs its bound on -log p(x) as `bound_nats`; the report then adds `nats_of`, the data set
    and its binarization.

    Randomness: draw with torch's global generator, which is seeded for every batch from
    (seed, epoch, batch), or with a generator that a method is given. Keep no other random state:
    it would be lost when a run is resumed. State that must survive goes into parameters or buffers.

    Pictures and metrics: a callback asks for a Protocol (`src.callbacks.protocols`) and does
    nothing for a model without it.

        method                          picture or metric
        sample(n, generator)            samples; FID and the like; `src.sample`
          + labels, num_classes         samples with one class per column
        interpolate(n, steps, ...)      `src.sample interpolate=...`
        reconstruct(images, generator)  reconstructions next to their images
        encode(images), decode(z)       walks between images; the latent plane if latent_dim is 2
          + latents(n, generator)       sliders through latent space in `src.serve`
        canvases(n, generator, images)  canvases step by step, as strips and GIFs
        log_weights(x, noise)           importance-weighted -log p(x); `src.evaluate iwae_samples=k`
        compare(a, b, generator)        images next to the model's versions of them
          + compared                    headers of the columns
        translate(images, to)           `src.translate`; augmentation of a folder
        graphs()                        TensorBoard's graphs: {name: (network, example input)}
          or example_inputs()           the same, for `src.train --summary` only

    All methods take and return images (n, C, H, W) in [0, 1], whatever range the networks use.

    Attributes:
        schedule: instance attribute; progress in [0, 1) -> factor on all learning rates, see
            `src.optim.schedules`. The callback `Reproducibility` sets the rates. Without it they
            stay constant.
        takes: the kind of data it learns from, one of the values of
            `src.data.base.DataModule.holds`.
        sentences: `labeled` or `unlabeled`: which sentences of a data set of sentences it takes;
            None for other data.
        is_classifier: it classifies images by a network from images to logits: `src.predict` and
            `src.export` use its runs, and other models may start from its weights.
        supports: Trainer settings of which it supports only some values: {setting: (these values,
            why no others)}.
        monitor: the validation metric that falls as the model gets better, which early stopping and
            the schedule `plateau` watch by default; None: it has none.
        key_metrics: names of the metrics that matter most, without their stage, the most important
            first. The first five that were measured are shown at the end of a run; `src.runs` shows
            the first two in its table, and all in comparisons.
        optimizer_names: a name in the logs for the learning rate of each optimizer.
        compilable: dotted names of the networks that `model.compile` fuses.
        memory_format: layout of weights and images on the device.
        resumed: instance attribute, set by `src.engine.fit`: whether a checkpoint will replace the
            initial weights after `setup`.

    The config checks read `takes`, `sentences`, `is_classifier`, `supports`, `monitor` and
    `key_metrics` from the source, without importing the module: write them as literals, or as names
    of constants that are literals.
    """

    takes: ClassVar[str] = "images"
    sentences: ClassVar[str | None] = None
    is_classifier: ClassVar[bool] = False
    supports: ClassVar[dict[str, tuple[tuple[Any, ...], str]]] = {}
    monitor: ClassVar[str | None] = None
    key_metrics: ClassVar[tuple[str, ...]] = ("loss",)
    optimizer_names: ClassVar[tuple[str, ...]] = ("lr",)
    compilable: ClassVar[tuple[str, ...]] = ()
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    resumed: bool = False

    def __init__(self, compile: bool | Literal["auto"] = False, cuda_graph: bool = False) -> None:
        """Set up a model with the settings `model.compile` and `model.cuda_graph`.

        Raises:
            UserError: compile is true, and there is no C++ compiler.
        """
        super().__init__()
        self.replay = Replay() if cuda_graph else None
        found = any(shutil.which(name) for name in (os.environ.get("CXX"), *COMPILERS) if name)
        if compile is True and not found:
            raise UserError(
                "model.compile=true needs a C++ compiler (g++ or clang++): install one, or set "
                "model.compile=false"
            )
        self.compile_setting: bool | Literal["auto"] = compile if found else False

    def compile_break_even(self) -> int | None:
        """Return the number of batches from which compiling saves time, for model.compile=auto.

        None, the default: it never does.
        """
        return None

    def should_compile(self, batches: float) -> bool:
        """Return whether `model.compile` says to compile for a run of so many batches."""
        break_even = self.compile_break_even()
        if self.compile_setting == "auto":
            return break_even is not None and batches >= break_even
        return self.compile_setting

    def compile_networks(self) -> None:
        """Compile the networks. Each compiles itself when it is called for the first time."""
        for name in self.compilable:
            network = self.get_submodule(name)
            # as network.compile() does, which has no effect on an nn.Sequential in torch 2.11
            network._compiled_call_impl = torch.compile(_calling(network._call_impl), dynamic=False)

    def replayed(self, function: Callable[..., Any], net: nn.Module, *inputs: Tensor) -> Any:
        """Return function(*inputs), in training on a GPU replayed from CUDA graphs.

        `net` is the module that `function` calls; see `src.nets.cuda_graph.Replay`. Without the
        setting `model.cuda_graph`, or if gradients are accumulated over several batches, this is a
        plain call.
        """
        if self.replay is None or not inputs[0].is_cuda or not can_record():
            return function(*inputs)
        if self._trainer is not None and self.trainer.accumulate_grad_batches > 1:
            return function(*inputs)
        return self.replay(function, net, *inputs)

    def teardown(self, stage: str) -> None:
        """Free the recordings: the Trainer moves the weights, whose memory they use."""
        if self.replay is not None:
            self.replay = Replay()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. Lightning sets `_current_fx_name` 40 times a batch: skip the checks."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def load_pretrained(self, datamodule: Any) -> None:
        """Load and log the weights that the setting `init_from` names; by default there are none.

        A new run calls this once, before training; a resumed one has its weights already.

        Args:
            datamodule: the data of the training.
        """

    def example_inputs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return name -> (network, example input) for `src.train --summary`.

        By default they are those of `graphs`. A model must have one of both.
        """
        if not hasattr(self, "graphs"):
            raise TypeError(f"{type(self).__name__} needs graphs() or example_inputs()")
        graphs: dict[str, tuple[nn.Module, Any]] = cast(Any, self).graphs()
        return graphs

    @property
    def datamodule(self) -> Any:
        """The data module that the Trainer was given."""
        trainer: Any = self.trainer
        return trainer.datamodule

    def log_means(self, means: Mapping[str, Any], n: int) -> None:
        """Log means over the `n` images of a batch; they are averaged over batches and processes.

        Lightning divides by the mean of `batch_size` over the processes, rounded down. As a
        multiple of their number it is exact.
        """
        batch_size = n * self.trainer.world_size
        self.log_dict(means, batch_size=batch_size, on_epoch=True, sync_dist=True)

    def summed(self, counts: Tensor) -> Tensor:
        """Return the sum of `counts` over all processes that train or evaluate this model."""
        total: Tensor = self.trainer.strategy.reduce(counts, reduce_op="sum")
        return total

    @property
    def own_optimizers(self) -> list[LightningOptimizer]:
        """The optimizers that a model with manual optimization steps, as it configured them."""
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]


def _calling(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `function` so that torch.compile traces it even if it skips the function's module."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call
