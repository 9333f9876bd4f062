"""From a checked config to the objects of a run: data, model, trainer."""

import ctypes
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from src.callbacks.checkpoint import Checkpoint
from src.callbacks.exact import Exact
from src.callbacks.nonfinite import NonFinite
from src.callbacks.record import Record
from src.config.checks import check_saved, fill, leaves
from src.config.signatures import class_attribute
from src.config.targets import NODES
from src.core import runs
from src.core.errors import UserError, writing
from src.core.files import LogFile, write_atomically
from src.data.decode import colour
from src.data.sets.reviews import Reviews
from src.data.transforms.augment import Augment
from src.models.classifier import Classifier, Whole, in_channels


def open_log(folder: Path, append: bool) -> logging.Logger:
    """The run's logger: plain lines to the terminal and to folder/train.log."""
    folder.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger("src")
    for handler in log.handlers[:]:  # of the sweep's job before this one
        log.removeHandler(handler)
        handler.close()
    log.propagate = False
    if not runs.is_first_process():
        return log
    log.setLevel(logging.INFO)
    path = folder / "train.log"
    with writing(str(path)):
        to_file = LogFile(
            path,
            mode="a" if append else "w",
            encoding="utf-8",
            errors="backslashreplace",  # a file's name need not be UTF-8
        )
    to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(to_file)
    log.addHandler(logging.StreamHandler())
    return log


def quiet() -> None:
    """Leave out what Lightning says that the run says itself, and its warnings that are not so here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    not_so = (
        "does not have many workers",
        "smaller than the logging interval",
        "is not resumable",
        "LeafSpec",
        "ranks is zero",
        "in eval mode at the start of training",
    )
    for words in not_so:
        warnings.filterwarnings("ignore", f".*{words}.*")


def keep_memory() -> None:
    """Have the C library keep the memory that tensors give back: else the kernel clears each page anew for every batch."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # glibc's
        trim_threshold, mmap_max = -1, -4
        libc.mallopt(trim_threshold, -1)  # hand nothing back
        libc.mallopt(mmap_max, 0)  # not even what is large


def data(cfg: DictConfig, checkpoint: dict[str, Any] | None = None) -> Any:
    """The data module, an `ImageData` or `Reviews`, its files read; what `cfg` leaves to be counted, the model's num_classes
    or words, is put there.

    Raises UserError where it has other classes than `checkpoint` learned, which its net would not fit, or fit wrongly.
    """
    settings = {key: value for key, value in cfg.data.items() if key not in NODES["data"].extra}
    model_class = str(OmegaConf.select(cfg, "model._target_"))
    if (sentences := class_attribute(model_class, "sentences")) is not None:
        settings["labelled"] = sentences == "labelled"
    module = _instantiate(settings, "data")
    module.augment = augmentation(cfg)
    module.setup()
    if checkpoint is not None:
        module.load_state_dict(_of_data(cfg, checkpoint, runs.LAST))
    if "num_classes" in (cfg.get("model") or {}):
        if not module.num_classes or not module.labelled:
            raise UserError(f"{cfg.model._target_} needs labels, and data={cfg.data.name} has none")
        _count(cfg.model, "num_classes", module.num_classes)
        _expect_classes(cfg, module)
    if isinstance(module, Reviews):
        _count(cfg.model, "vocab_size", len(module.words))
        _expect_count(cfg, "vocab_size", len(module.words))
    return module


def expect_test(data: Any) -> None:
    """Raise UserError where `data` holds no images to test on."""
    if hasattr(data, "test_size") and not len(data.test):
        raise UserError(
            f"data.test_size={data.test_size} leaves nothing to test on: test=false trains without a test"
        )


def _expect_classes(cfg: DictConfig, module: Any) -> None:
    """Raise UserError where data.num_classes does not fit the images' labels, or the model's does not fit that."""
    known = module.num_classes
    parts = (module.train, module.val, module.test)
    highest = max(int(part.labels.max()) for part in parts if len(part))
    if highest >= known:
        raise UserError(
            f"data.num_classes={known} does not fit data={cfg.data.name}, which has labels up to {highest}"
        )
    _expect_count(cfg, "num_classes", known)


def _expect_count(cfg: DictConfig, name: str, number: int) -> None:
    """Raise UserError where the model has another `name` than `number`, that of the data."""
    for path, value in leaves(OmegaConf.to_container(cfg.model, resolve=True), "model"):
        if path.endswith(f".{name}") and value != number:
            raise UserError(f"{path}={value} does not fit data={cfg.data.name}, which has {number}")


def augmentation(cfg: DictConfig) -> Augment | None:
    """cfg.augment's transforms, None where there are none."""
    nodes = {
        str(name): node
        for name, node in (cfg.augment or {}).items()
        if isinstance(node, DictConfig)
    }
    settings = {name: value for name, value in (cfg.augment or {}).items() if name not in nodes}
    if "run" in settings:
        if nodes:
            raise UserError(
                f"augment=model makes images by itself: {', '.join(nodes)} can be done in training"
            )
        return None
    transforms = {name: _instantiate(node, f"augment.{name}") for name, node in nodes.items()}
    return Augment(transforms, **settings) if transforms else None


def _count(node: DictConfig, name: str, number: int) -> None:
    """Write `number` as `name` into `node` and all below it where it is null."""
    for key, child in node.items():
        if isinstance(child, DictConfig):
            _count(child, name, number)
        elif key == name and child is None:
            node[name] = number


def model(cfg: DictConfig) -> pl.LightningModule:
    """The model, in the memory format that it names, or that convolutions like best; its optimisers are tried once, to refuse
    them here."""
    if runs.is_classifier(cfg.model):
        _check_size(cfg)
    if (
        cfg.get("trainer")
        and cfg.trainer.gradient_clip_val is not None
        and "fused" in cfg.model.optimizer
    ):
        cfg.model.optimizer.fused = (
            False  # whose step Lightning takes for one that unscales too, and refuses to clip
        )
    built = _instantiate(cfg.model, "model")
    built = built.to(memory_format=getattr(built, "memory_format", torch.channels_last))
    try:
        built.configure_optimizers()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"model.optimizer: {_reason(error)}") from error
    return built


def _check_size(cfg: DictConfig) -> None:
    """Raise UserError that names the smallest size that works where the classifier's net cannot take the data's."""
    why = refusal(cfg, cfg.data.size)
    if why is None:
        if cfg.data.batch_size == 1 and (alone := refusal(cfg, cfg.data.size, alone=True)):
            raise UserError(f"data.batch_size=1 does not fit {cfg.model.net._target_}: {alone}")
        return
    low, high = 0, 1024  # the smallest side that works lies above `low`, up to `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if refusal(cfg, middle) is None else (middle, high)
    if (other := refusal(cfg, high)) is not None:  # it is not the size
        raise UserError(f"model.net: {other}")
    raise UserError(
        f"data.size={cfg.data.size} does not fit {cfg.model.net._target_}: the smallest that works is data.size={high} ({why})"
    )


def refusal(cfg: DictConfig, size: Any, alone: bool = False) -> str | None:
    """Why the classifier's net cannot take images of `size`, or be trained on one `alone`, None where it can; tried without
    memory or arithmetic."""
    settings = OmegaConf.to_container(cfg.model.net, resolve=True)
    assert isinstance(settings, dict)
    settings |= {"size": size} if "size" in settings else {}
    height, width = (size, size) if isinstance(size, int) else size
    try:
        with torch.device("meta"), torch.no_grad():
            net = instantiate(settings, _convert_="all").train(alone)
            net(torch.zeros(1 if alone else 2, in_channels(net, cfg.data.channels), height, width))
    except Exception as error:  # each net and layer raises its own
        return _reason(error)
    return None


def trainer(
    cfg: DictConfig,
    folder: Path,
    *more: pl.Callback,
    checkpoint: dict[str, Any] | None = None,
    keep: bool = True,
) -> pl.Trainer:
    """The Trainer with its callbacks and loggers.

    Args:
        more: callbacks besides the config's.
        checkpoint: that a run goes on from; what was logged after it is forgotten.
        keep: write checkpoints.
    """
    quiet()
    keep_memory()
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = (
            "0"  # Lightning's 1 has each optimiser step look for NVML's library
        )
    settings = dict(cfg.trainer)
    if settings["precision"] == "auto":
        settings["precision"] = fast_precision(settings["accelerator"])
    loggers = [
        _instantiate(node, f"logger.{name}")(folder=folder, batches_done=batches_done(checkpoint))
        for name, node in (cfg.logger or {}).items()
    ]
    chosen = [
        _instantiate(node, f"callbacks.{name}") for name, node in (cfg.callbacks or {}).items()
    ]
    # early stopping comes first: the others ask whether this is the last epoch
    chosen.sort(key=lambda callback: not isinstance(callback, EarlyStopping))
    # the checkpoint comes last: it keeps what the others did, and NonFinite what must not be kept
    last = [Checkpoint(folder, cfg.checkpoint.every_n_batches)] if keep else []
    try:
        limit = settings.pop("max_time")
        timer = [Timer(limit)] if limit else []  # Lightning's own would come behind the checkpoint
        guard = NonFinite(folder, cfg.on_nonfinite)
        callbacks = [Exact(cfg.seed), Record(), guard, *timer, *chosen, *more, *last]
        trainer = instantiate(
            settings,
            logger=loggers or False,
            callbacks=callbacks,
            plugins=[AtomicCheckpoints(checkpoint)],
            default_root_dir=str(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
            _convert_="all",
        )
        # Lightning's handlers broadcast inside the handler, which hangs where ranks are at
        # different places; `Checkpoint` and `src.config.cli` handle signals
        trainer._signal_connector.register_signal_handlers = lambda: None
        return trainer
    except Exception as error:  # Hydra wraps whatever the Trainer refuses
        raise UserError(f"trainer: {_reason(error)}") from error


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what Lightning refuses only when it begins into a UserError."""
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(f"trainer: {_reason(error)}") from error


def batches_done(checkpoint: dict[str, Any] | None) -> int:
    """How many batches the run had seen when `checkpoint` was written."""
    return 0 if checkpoint is None else runs.batches_in(checkpoint)


def opened(folder: Path) -> tuple[DictConfig, pl.LightningModule, dict[str, Any]]:
    """A run's config, its model with the newest weights, on the CPU, in eval mode, and what `ImageData.state_dict` kept."""
    cfg = runs.config_of(folder)
    fill(cfg)
    check_saved(cfg, runs.config_path(folder))
    path = runs.last_checkpoint(folder)
    checkpoint = runs.load_last(folder)
    of_data = _of_data(cfg, checkpoint, path)
    for name, counted in (("num_classes", "class_names"), ("vocab_size", "words")):
        _count(cfg.model, name, len(of_data.get(counted, [])))
    built = model(cfg)
    _expect_weights(built, checkpoint, path)
    built.load_state_dict(checkpoint["state_dict"])
    return cfg, built.eval(), of_data


class Trained(NamedTuple):
    """A finished classifier and what it may be asked.

    Attributes:
        net: images (B, C, H, W) in [0, 1], as a person has them -> logits (B, num_classes).
        channels, size: C and (H, W).
        class_names: one a logit.
        background: red, green, blue from 0 to 255 behind what is transparent.
    """

    net: Whole
    channels: int
    size: tuple[int, int]
    class_names: list[str]
    background: tuple[int, int, int]


def classifier(folder: Path) -> Trained:
    """The classifier of a finished run, on the CPU, in eval mode; `runs.expect_classifier` says whether it is one."""
    cfg, model, of_data = opened(folder)
    assert isinstance(model, Classifier)
    size = cfg.data.size
    height, width = (size, size) if isinstance(size, int) else size
    return Trained(
        Whole(model, of_data["permutation"]).eval(),
        cfg.data.channels,
        (height, width),
        of_data["class_names"],
        colour(cfg.data.get("background", "white")),
    )


def _of_data(cfg: DictConfig, checkpoint: dict[str, Any], where: Path | str) -> dict[str, Any]:
    """What `checkpoint`, read from `where`, knows of its data; Lightning keeps it by the name of their class."""
    needed = class_attribute(cfg.data._target_, "state_keys")
    if not needed:
        return {}
    kept = checkpoint.get(cfg.data._target_.rpartition(".")[2])
    kept = kept if isinstance(kept, dict) else {}
    if not kept.keys() >= set(needed):
        raise UserError(
            f"{where} knows nothing of data={cfg.data.name}, which the run's config names: other data made it, or an earlier "
            f"version of the project; {runs.PUT_BACK}"
        )
    return kept


def expect_fit(
    built: pl.LightningModule, cfg: DictConfig, checkpoint: dict[str, Any], where: Path
) -> None:
    """Raise UserError unless training can go on from `checkpoint`, which lies at `where`, with the model `built` from `cfg`."""
    _expect_weights(built, checkpoint, where)
    optimizers: Any = built.configure_optimizers()
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    settings = cfg.model.optimizer.keys() - {"_target_", "_partial_"}
    try:
        theirs = [state["param_groups"] for state in checkpoint["optimizer_states"]]
        same = [[len(group["params"]) for group in groups] for groups in theirs] == [
            [len(group["params"]) for group in optimizer.param_groups] for optimizer in optimizers
        ] and all(settings <= group.keys() for groups in theirs for group in groups)
    except (AttributeError, KeyError, TypeError):
        same = False
    if not same:
        raise UserError(f"{where} has other optimizers than the run's config says: {runs.PUT_BACK}")


def _expect_weights(built: pl.LightningModule, checkpoint: dict[str, Any], where: Path) -> None:
    ours, theirs = (
        {name: getattr(value, "shape", None) for name, value in state.items()}
        for state in (built.state_dict(), checkpoint["state_dict"])
    )
    if wrong := [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]:
        raise UserError(
            f"{where} is not of the {type(built).__name__} that the run's config describes "
            f"({len(wrong)} weights differ, {wrong[0]} first): {runs.PUT_BACK}"
        )


def fast_precision(accelerator: str) -> str:
    """bf16-mixed where the chosen hardware multiplies bf16 natively, else 32-true."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        fast = "avx512_bf16" in flags or "amx_bf16" in flags
    else:
        fast = False
    return "bf16-mixed" if fast else "32-true"


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written beside the target and renamed; the one before is kept as previous.ckpt.

    Args:
        loaded: the checkpoint to resume from, read and checked already, for Lightning to take once.
    """

    def __init__(self, loaded: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.loaded = loaded

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        target = Path(path)
        write_atomically(
            target,
            lambda temporary: torch.save(checkpoint, temporary),
            previous=target.with_name(runs.PREVIOUS),
        )

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        checkpoint, self.loaded = self.loaded, None
        assert checkpoint is not None
        return checkpoint


def _instantiate(node: Any, where: str) -> Any:
    """Build a config node; what the class refuses becomes one line that names the node."""
    try:
        return instantiate(node, _convert_="all")
    except UserError:
        raise
    except Exception as error:  # Hydra wraps whatever the class raises
        raise UserError(f"{where}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return "; ".join(lines[:2]) if lines else type(cause).__name__
