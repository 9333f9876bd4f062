"""What every model family promises to the commands, the callbacks and the checks of a config."""

from typing import Any, ClassVar

import pytorch_lightning as pl
import torch


class Family(pl.LightningModule):
    """Base of all models. A subclass overrides the attributes that differ.

    The checks of a config read `takes`, `sentences` and `refuses` from the source, without importing the module. So write
    them as literals, or as names of constants that are.

    Attributes:
        takes: the kind of data that it learns from, one of the values of `src.data.base.DataModule.holds`.
        sentences: which sentences of a data set that holds sentences: `labelled` or `unlabelled`; None for other data.
        refuses: Trainer settings that it cannot follow: {setting: (the values that it can follow, the reason)}.
        optimizer_names: a name in the logs for the learning rate of each optimizer.
        memory_format: of the weights and images on the device.
    """

    takes: ClassVar[str] = "images"
    sentences: ClassVar[str | None] = None
    refuses: ClassVar[dict[str, tuple[tuple[Any, ...], str]]] = {}
    optimizer_names: ClassVar[tuple[str, ...]] = ("lr",)
    memory_format: ClassVar[torch.memory_format] = torch.channels_last

    def load_pretrained(self, datamodule: Any) -> None:
        """Load and log the weights that the setting `init_from` names; by default there are none.

        A new run calls this once, before training; a resumed one has its weights already.

        Args:
            datamodule: that the model will be trained on.
        """

    @property
    def datamodule(self) -> Any:
        """The data module that the Trainer was given."""
        trainer: Any = self.trainer
        return trainer.datamodule
