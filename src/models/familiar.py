"""Detect images unlike all those that a classifier was trained on."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.errors import UserError
from src.core.files import Damaged, load_checked, write_atomically
from src.nets.feature_net import FeatureNet
from src.nets.inspect import classifier_heads

FILE = "familiar.pt"  # in the folder of a run
NEIGHBORS = 3  # nearest training images whose mean distance decides; fewer if there are fewer
ACCEPTED = 0.95  # share of held-out images of the own classes that count as familiar


class Familiar(NamedTuple):
    """The features of the training images, and from which distance on an image is unfamiliar.

    See Sun 2022.

    Attributes:
        features: inputs of the head, (N, D), each of length 1.
        threshold: an image at a larger distance is unlike all of them.
        network: `digest_below_head` of the network that computed the features; None: unknown.
    """

    features: Tensor
    threshold: float
    network: str | None = None

    def distance(self, features: Tensor) -> Tensor:
        """Return the distance (M,) of images with `features` (M, D) from the training images."""
        return neighbor_distance(F.normalize(features, dim=1), self.features)

    def save(self, folder: Path) -> None:
        """Write it into the folder of a run."""
        write_atomically(folder / FILE, lambda path: torch.save(self._asdict(), path))

    @classmethod
    def load(cls, folder: Path, net: nn.Module) -> "Familiar | None":
        """Read it from the folder of a run.

        Returns None if there is none, or if `net` computes other features, because it was trained
        further.

        Raises:
            UserError: the file is damaged.
        """
        try:
            saved = load_checked(folder / FILE)
            made = cls(saved["features"] * 1.0, float(saved["threshold"]), saved.get("network"))
            return made if made.network in (None, digest_below_head(net)) else None
        except FileNotFoundError:
            return None
        except (Damaged, AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder / FILE} is damaged ({error}): remove it") from error


def neighbor_distance(queries: Tensor, known: Tensor) -> Tensor:
    """Return the distance (M,) of each query (M, D) to its nearest known images (N, D).

    It is the mean Euclidean distance of the nearest `NEIGHBORS`.
    """
    nearest = min(NEIGHBORS, len(known))
    return torch.cdist(queries, known).topk(nearest, 1, largest=False).values.mean(1)


def learn_familiar(features: Tensor, distances: Tensor, network: str | None = None) -> Familiar:
    """Choose the threshold so that `ACCEPTED` of the held-out images are below it.

    Args:
        features: of the N training images, (N, D).
        distances: of images that were held out from those that their network learned from; NaN for
            others. Without any, every image is familiar.
        network: `digest_below_head` of the network that computed the features.
    """
    known = distances[~distances.isnan()].double()
    threshold = float(known.quantile(ACCEPTED)) if len(known) else float("inf")
    return Familiar(F.normalize(features, dim=1), threshold, network)


def head_of(net: nn.Module) -> nn.Module:
    """Return the part that computes the logits: the last layer, or the head of a `FeatureNet`."""
    return net.get_submodule(_name_of_head(net))


def digest_below_head(net: nn.Module) -> str:
    """Return a digest of all weights and buffers that the input of the head depends on."""
    digest, head = hashlib.blake2b(digest_size=16), f"{_name_of_head(net)}."
    for name, value in net.state_dict().items():
        if not name.startswith(head):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _name_of_head(net: nn.Module) -> str:
    return "head" if isinstance(net, FeatureNet) else classifier_heads(net)[0]
