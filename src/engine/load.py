"""Load a finished run: its config, its model and the state of its data."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from src.config.checks import check
from src.config.saved import check_saved
from src.config.targets import marked
from src.core import runs
from src.core.chosen_checkpoint import load_chosen, path_of
from src.core.errors import UserError
from src.core.types import PATH, height_width
from src.data.decode import Fit, decode, parse_color, prepare
from src.engine import build, resume
from src.models.classifier import Classifier
from src.models.deployed import DeployedClassifier
from src.models.familiar import Familiar, head_of


def move_data(run_cfg: DictConfig, paths: Mapping[Any, str]) -> None:
    """Set new paths in the data of a run's config: {"root": DIR}.

    Raises:
        UserError: a name is not that of a path.
    """
    allowed = marked(run_cfg.data._target_, PATH)
    for key, path in paths.items():
        if key not in allowed:
            names = ", ".join(f"data.{name}" for name in allowed)
            raise UserError(
                f"data.{key}={path} cannot change; data={run_cfg.data.name} allows only {names}"
            )
        run_cfg.data[key] = path


def load_run(
    folder: Path, change: Callable[[DictConfig], None] | None = None, which: str = "last"
) -> tuple[DictConfig, pl.LightningModule, dict[str, Any]]:
    """Load a run from its folder.

    Args:
        change: called to change the run's config, which is then checked again.
        which: the checkpoint, `last` or `best`.

    Returns:
        its checked config; its model with the weights of the checkpoint, on the CPU, in eval mode;
        and the state of its data module (see `ImageData.state_dict`).
    """
    cfg = runs.load_config(folder)
    check_saved(cfg, runs.config_path(folder))
    if change is not None:
        change(cfg)
        check(cfg)
    path = path_of(folder, which)
    checkpoint = load_chosen(folder, which)
    state = resume.data_state(cfg, checkpoint, path)
    model = build.model_with(cfg, _counts(state))
    resume.expect_weights(model, checkpoint, path)
    model.load_state_dict(checkpoint["state_dict"])
    return cfg, model.eval(), state


def _counts(state: dict[str, Any]) -> dict[str, int]:
    """Return the result of `build.data_counts` at the time of training."""
    names = {"num_classes": "class_names", "vocab_size": "words"}
    return {name: len(state.get(key, [])) for name, key in names.items()}


class BatchPredictions(NamedTuple):
    """The predictions for B images.

    Attributes:
        probabilities: (B, num_classes), rows sum to 1.
        unlike: (B,) bool: the image is unlike all that the classifier learned from. All False for a
            run that does not know (`src.nanonet` measures it).
    """

    probabilities: Tensor
    unlike: Tensor


class LoadedClassifier(NamedTuple):
    """A finished classifier, ready for inference.

    Attributes:
        net: images (B, C, H, W) in [0, 1], not normalized -> logits (B, num_classes).
        fit: how images are decoded; `fit.size` is not None.
        class_names: the name of each logit.
        familiar: how far from its training images is unfamiliar; None: unknown.
    """

    net: DeployedClassifier
    fit: Fit
    class_names: list[str]
    familiar: Familiar | None = None

    def read(self, path: Path) -> Tensor:
        """Return an image file as the network wants it, (C, H, W) uint8.

        Raises UserError if it cannot be read.
        """
        return decode(path, self.fit)

    def prepare(self, image: Image.Image) -> Tensor:
        """Return an open image as `read` does. Raises whatever Pillow's plugins raise."""
        return prepare(image, self.fit)

    def predict(self, images: Tensor) -> BatchPredictions:
        """Classify images (B, C, H, W) in [0, 1]."""
        if self.familiar is None:
            with torch.no_grad():
                probabilities = self.net(images).double().softmax(1)
            return BatchPredictions(probabilities, torch.zeros(len(images), dtype=torch.bool))
        features: list[Tensor] = []
        hook = head_of(self.net.net).register_forward_pre_hook(
            lambda _, inputs: features.append(inputs[0].float())
        )
        try:
            with torch.no_grad():
                probabilities = self.net(images).double().softmax(1)
        finally:
            hook.remove()
        in_place = features[-2 if self.net.tta.flip else -1]  # see `predict_with_tta`
        unlike = self.familiar.distance(in_place) > self.familiar.threshold
        return BatchPredictions(probabilities, unlike)


def load_classifier(folder: Path, which: str = "last") -> LoadedClassifier:
    """Load a finished classifier, on the CPU, in eval mode.

    Callers check with `expect_classifier` first that the run trained one.
    """
    cfg, model, state = load_run(folder, which=which)
    assert isinstance(model, Classifier)
    data = cfg.data
    fit = Fit(
        height_width(data.size),
        data.channels,
        parse_color(data.get("background", "white")),
        data.get("crop", 1.0),
        data.get("interpolation", "bilinear"),
    )
    net = DeployedClassifier(model, state["permutation"]).eval()
    return LoadedClassifier(net, fit, state["class_names"], Familiar.load(folder, net.net))
