"""Which parts of a classifier's network are trained; it changes in the course of a run."""

import logging
from collections.abc import Sequence

from torch import nn

from src.core.progress import Progress
from src.models.pretrained import Transfer
from src.nets.average import MovingAverage
from src.nets.inspect import frozen_parts, parts_of

log = logging.getLogger(__name__)


class TrainedParts:
    """Freezes and unfreezes the parts of a network.

    What is frozen has no gradients, and its modules stay in evaluation mode: the statistics of
    BatchNorm are fixed, and dropout is off.

    Args:
        net: the network.
        average: its moving average, if there is one. A part that is frozen early gets its weights.
        transfer: what is frozen from the start, and until when.
        freeze_early: fractions of the run, one for each of the first parts of the network (see
            `src.nets.inspect.parts_of`). After it, this part is no longer trained (Brock 2017,
            without its learning rates). The backward pass ends there, so the first ones save most.

    Raises:
        ValueError: nothing would be left to train, or a part would be frozen before the one in
            front of it, which saves nothing.
    """

    def __init__(
        self,
        net: nn.Module,
        average: MovingAverage | None,
        transfer: Transfer,
        freeze_early: Sequence[float],
    ) -> None:
        self._frozen, self._fixed_modules = frozen_parts(net, transfer.freeze)
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        self._unfreeze_epoch = transfer.unfreeze_epoch
        parts = parts_of(net)
        if freeze_early and transfer.freeze != "none":
            raise ValueError(
                f"freeze_early={list(freeze_early)} and transfer.freeze={transfer.freeze} exclude "
                "each other"
            )
        if len(freeze_early) >= len(parts):
            raise ValueError(
                f"freeze_early has {len(freeze_early)} numbers; at most {len(parts) - 1}, because "
                f"the network has {len(parts)} parts and the last one is always trained: "
                + ", ".join(parts)
            )
        if list(freeze_early) != sorted(freeze_early):
            raise ValueError(f"freeze_early={list(freeze_early)}: a number is below the one before")
        self._early = [
            _EarlyPart(name, part, average and average.module.get_submodule(name), end)
            for (name, part), end in zip(parts.items(), freeze_early, strict=False)
        ]

    def update(self, now: Progress) -> bool:
        """Freeze and unfreeze what is due before the next batch; return whether that was any."""
        changed = [part for part in self._early if part.is_frozen != (now.fraction >= part.end)]
        for part in changed:
            part.set_frozen(not part.is_frozen)
        is_due = self._unfreeze_epoch is not None and now.epoch >= self._unfreeze_epoch
        if self._frozen and is_due:
            for parameter in self._frozen:
                parameter.requires_grad_(True)
            n = sum(parameter.numel() for parameter in self._frozen)
            log.info("after epoch %d, %s more parameters are trained", now.epoch, f"{n:,}")
            self._frozen, self._fixed_modules = [], []
            return True
        return bool(changed)

    def finish(self) -> None:
        """After the run, count what was frozen early among the trained parameters again."""
        for part in self._early:
            if part.is_frozen:
                part.set_frozen(False)

    def set_modes(self) -> None:
        """Switch the modules of frozen parts to evaluation mode."""
        for module in self._fixed_modules:
            module.training = False
        for part in self._early:
            if part.is_frozen:
                part.module.eval()


class _EarlyPart:
    """A part of the network that is trained only in the first part of the run.

    Args:
        name: of the part.
        module: the part.
        average: the same part of the moving average, if there is one.
        end: fraction of the run at which it is frozen.
    """

    def __init__(self, name: str, module: nn.Module, average: nn.Module | None, end: float) -> None:
        self.name, self.module, self.average, self.end = name, module, average, end
        self.is_frozen = False
        self._parameters = [p for p in module.parameters() if p.requires_grad]

    def set_frozen(self, frozen: bool) -> None:
        """Freeze the part with the averaged weights, or train it again.

        A resumed run freezes it a second time, which changes nothing: the average of equal weights
        are these weights.
        """
        self.is_frozen = frozen
        for parameter in self._parameters:
            parameter.requires_grad_(not frozen)
            parameter.grad = None
        if frozen:
            if self.average is not None:
                self.module.load_state_dict(self.average.state_dict())
            log.info("after %g%% of the run, %s is no longer trained", 100 * self.end, self.name)
