"""The step of a model with one optimizer, without layers of Lightning that change nothing here.

Lightning passes a batch through a strategy, a precision plugin, an optimizer wrapper and three
closures, each of which may do something on other hardware. On one device, without a gradient
scaler and without accumulation, they do nothing but call each other. For a small network that takes
as long as its forward pass.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.loops.optimization.automatic import _AutomaticOptimization
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor

from src.core.progress import progress


class StepLoop(_AutomaticOptimization):
    """Do what Lightning's automatic optimization does, in the same order and with the same hooks.

    Other cases (several devices, a gradient scaler, accumulated gradients, an unusual precision)
    use Lightning's own implementation.
    """

    is_simple: bool | None = None  # unknown before the first batch

    def run(
        self, optimizer: torch.optim.Optimizer, batch_idx: int, kwargs: OrderedDict[str, Any]
    ) -> dict[str, Any]:
        """Train on one batch; return what training_step returned, with the loss detached."""
        trainer: Any = self.trainer
        if self.is_simple is None:
            self.is_simple = is_simple(trainer)
        # a callback may change the number of batches per step
        accumulated = trainer.accumulate_grad_batches
        if not self.is_simple or accumulated > 1:
            # Lightning counts the steps, but validation is logged by the number of batches
            trainer.fit_loop.epoch_loop._batches_that_stepped = progress(trainer).batch
            outputs = super().run(optimizer, batch_idx, kwargs)
            # Lightning divides the loss, so that gradients add up to a mean
            return outputs | {"loss": outputs["loss"] * accumulated} if outputs else outputs
        model, done = trainer.lightning_module, self.optim_progress.optimizer
        outputs = {}

        def closure() -> Tensor:
            outputs.update(self._training_outputs(model, kwargs))
            loss: Tensor = outputs["loss"]
            done.zero_grad.increment_ready()
            self._call("on_before_zero_grad", optimizer)
            done.zero_grad.increment_started()
            model.optimizer_zero_grad(trainer.current_epoch, batch_idx, optimizer)
            done.zero_grad.increment_completed()
            self._call("on_before_backward", loss)
            with trainer.profiler.profile("[Strategy].backward"):
                model.backward(loss)
            self._call("on_after_backward")
            self._call("on_before_optimizer_step", optimizer)
            model.configure_gradient_clipping(
                optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
            )
            outputs["loss"] = loss.detach()
            return outputs["loss"]

        done.step.increment_ready()
        with trainer.profiler.profile(f"[LightningModule]{type(model).__name__}.optimizer_step"):
            model.optimizer_step(trainer.current_epoch, batch_idx, optimizer, closure)
        done.step.increment_completed()
        return outputs

    def _training_outputs(self, model: Any, kwargs: OrderedDict[str, Any]) -> dict[str, Any]:
        """Return what training_step returned, as a dict."""
        model._current_fx_name = "training_step"  # which `self.log` asks for
        trainer: Any = self.trainer
        with (
            trainer.profiler.profile("[Strategy].training_step"),
            trainer.precision_plugin.train_step_context(),
        ):
            outputs = model.training_step(*kwargs.values())
        model._current_fx_name = None
        return outputs if isinstance(outputs, dict) else {"loss": outputs}

    def _call(self, name: str, *args: Any) -> None:
        """Call the hook of the callbacks, then of the model, where there is one."""
        trainer: Any = self.trainer
        model = trainer.lightning_module
        model._current_fx_name = name
        for callback in trainer.callbacks:
            hook: Callable[..., Any] | None = getattr(callback, name)
            if hook is not None:
                with trainer.profiler.profile(f"[Callback]{type(callback).__name__}.{name}"):
                    hook(trainer, model, *args)
        if (hook := getattr(model, name)) is not None:
            hook(*args)
        model._current_fx_name = None


def is_simple(trainer: Any) -> bool:
    """Return whether Lightning would do nothing but the plain steps of a loop."""
    precision = trainer.precision_plugin
    return (
        isinstance(trainer.strategy, SingleDeviceStrategy)
        and type(precision) in (Precision, MixedPrecision)
        and getattr(precision, "scaler", None) is None
        and trainer.accumulate_grad_batches == 1
    )
