"""Build the objects of a run from its checked config: data module, model and trainer.

Nothing here changes the config.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy

from src.callbacks.checkpoint import Checkpoint
from src.callbacks.compiling import Compile
from src.callbacks.hparams import hparam_settings
from src.callbacks.nonfinite import NonFinite
from src.callbacks.profiling import OperatorProfile, SimpleProfile
from src.callbacks.reproducibility import Reproducibility
from src.callbacks.train_metrics import TrainMetrics
from src.callbacks.worker_cores import WorkerCores
from src.config.signatures import class_attribute
from src.core import runs
from src.core.errors import UserError
from src.core.memory import keep_memory
from src.data.transforms.augment import Augment
from src.engine import resume, runtime
from src.engine.checkpoints import AtomicCheckpoints
from src.engine.checks import expect_counts, expect_input_size, expect_labels, expect_processes
from src.engine.hooks import NoProfile, skip_empty_hooks
from src.engine.instantiate import instantiate_node, root_cause
from src.engine.step_loop import StepLoop
from src.models.base import Family


def datamodule(cfg: DictConfig, checkpoint: dict[str, Any] | None = None) -> Any:
    """Build the data module and read its files.

    Args:
        checkpoint: the one to resume from; the data must still have the classes it was trained on.

    Raises:
        UserError: the files are missing or damaged, or do not fit the model or the checkpoint.
    """
    settings = dict(cfg.data)
    model_class = str(OmegaConf.select(cfg, "model._target_"))
    if (sentences := class_attribute(model_class, "sentences")) is not None:
        settings["labeled"] = sentences == "labeled"
    module = instantiate_node(settings, "data")
    module.augment = augmentation(cfg)
    module.setup()
    if checkpoint is not None:
        module.load_state_dict(resume.data_state(cfg, checkpoint, runs.LAST))
    expect_labels(cfg, module)
    if cfg.get("model"):
        counts = data_counts(module)
        expect_counts(cfg, model_settings(cfg, counts), counts)
    return module


def augmentation(cfg: DictConfig) -> Augment | None:
    """Build the transforms of cfg.augment; None if there are none."""
    nodes = {
        str(name): node
        for name, node in (cfg.augment or {}).items()
        if isinstance(node, DictConfig)
    }
    settings = {name: value for name, value in (cfg.augment or {}).items() if name not in nodes}
    if "run" in settings:
        if nodes:
            raise UserError(
                f"augment=model cannot be combined with {', '.join(nodes)}: "
                "apply the other transforms during training"
            )
        return None
    transforms = {name: instantiate_node(node, f"augment.{name}") for name, node in nodes.items()}
    return Augment(transforms, **settings) if transforms else None


def model(cfg: DictConfig, datamodule: Any = None) -> Family:
    """Build the untrained model. Null settings such as num_classes are counted from the data.

    Its optimizers are built once, so that wrong settings of theirs fail now.
    """
    return model_with(cfg, {} if datamodule is None else data_counts(datamodule))


def model_with(cfg: DictConfig, counts: dict[str, int]) -> Family:
    """Build the model. Null settings get their values from `counts`, a result of `data_counts`."""
    settings = model_settings(cfg, counts)
    if class_attribute(cfg.model._target_, "is_classifier"):
        expect_input_size(cfg, settings["net"])
    if "fused" in settings["optimizer"] and clips_unscaled(cfg):
        settings["optimizer"]["fused"] = False
    built = instantiate_node(settings, "model")
    built = built.to(memory_format=built.memory_format)
    skip_empty_hooks(built)
    try:
        built.configure_optimizers()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"model.optimizer: {root_cause(error)}") from error
    return built


def clips_unscaled(cfg: DictConfig) -> bool:
    """Return whether gradients are clipped where a fused optimizer does not allow it.

    Lightning refuses to clip for a fused optimizer. With a gradient scaler (16-mixed), a fused one
    gets scaled gradients, so a model that clips its own (`clip_norm`) would clip those.
    """
    trainer = cfg.get("trainer") or {}
    scaled = str(trainer.get("precision")).startswith("16")
    own = scaled and cfg.model.get("clip_norm") is not None
    return own or trainer.get("gradient_clip_val") is not None


def data_counts(datamodule: Any) -> dict[str, int]:
    """Return the numbers that the data determine, by the name of the model setting they fill."""
    if hasattr(datamodule, "words"):
        return {"vocab_size": len(datamodule.words)}
    classes = getattr(datamodule, "num_classes", None)
    return {"num_classes": classes} if classes else {}


def model_settings(cfg: DictConfig, counts: dict[str, int]) -> dict[str, Any]:
    """Return cfg.model as plain values, in which null settings named in `counts` are filled in.

    They are filled in at any depth, if `model` also has that name at its top level.
    """
    settings = OmegaConf.to_container(cfg.model, resolve=True)
    assert isinstance(settings, dict)
    used = {name: number for name, number in counts.items() if name in settings}
    return fill_null({str(key): value for key, value in settings.items()}, used)


def fill_null(settings: dict[str, Any], values: dict[str, int]) -> dict[str, Any]:
    """Return `settings` with null ones, at any depth, filled in: {"num_classes": 10} by name."""
    return {
        key: fill_null(child, values)
        if isinstance(child, dict)
        else (values.get(key) if child is None else child)
        for key, child in settings.items()
    }


def trainer(
    cfg: DictConfig,
    folder: Path,
    *more: pl.Callback,
    checkpoint: dict[str, Any] | None = None,
    keep: bool = True,
) -> pl.Trainer:
    """Build the Trainer with its callbacks and loggers.

    Args:
        folder: the run's folder.
        more: callbacks besides those of the config.
        checkpoint: the one to resume from; the loggers drop everything logged after it.
        keep: whether to write checkpoints.
    """
    runtime.quiet()
    keep_memory()
    runtime.no_driver_checks()
    settings = dict(cfg.trainer)
    if settings["precision"] == "auto":
        settings["precision"] = runtime.fast_precision(settings["accelerator"])
    loggers = _loggers(cfg, folder, resume.batches_done(checkpoint))
    callbacks = _callbacks(cfg, folder, settings.pop("max_time"), more, keep)
    for callback in callbacks:
        skip_empty_hooks(callback)
    try:
        trainer = instantiate(
            settings,
            logger=loggers or False,
            callbacks=callbacks,
            plugins=[AtomicCheckpoints(checkpoint)],
            profiler=SimpleProfile(folder) if cfg.profiler == "simple" else NoProfile(),
            default_root_dir=str(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
            _convert_="all",
        )
    except UserError:
        raise
    except Exception as error:  # Hydra wraps the Trainer's own error
        raise UserError(f"trainer: {root_cause(error)}") from error
    expect_processes(trainer)
    if settings["strategy"] == "auto" and isinstance(trainer.strategy, DDPStrategy):
        # as conf/trainer/ddp.yaml says
        trainer.strategy._ddp_kwargs["find_unused_parameters"] = True
    trainer.fit_loop.epoch_loop.automatic_optimization = StepLoop(trainer)
    # Lightning's handlers broadcast inside the handler, which hangs if the ranks are at
    # different points; `Checkpoint` and `src.config.cli` handle signals instead
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer


def _loggers(cfg: DictConfig, folder: Path, batches_done: int) -> list[Logger]:
    """Return the loggers, which know the settings of the run."""
    loggers: list[Logger] = []
    for name, node in (cfg.logger or {}).items():
        made = instantiate_node(node, f"logger.{name}")
        if node.get("_partial_"):  # one of ours, not of Lightning
            made = made(folder=folder, batches_done=batches_done)
        made.log_hyperparams(hparam_settings(cfg, folder))
        loggers.append(made)
    return loggers


def _callbacks(
    cfg: DictConfig, folder: Path, max_time: Any, more: tuple[pl.Callback, ...], keep: bool
) -> list[pl.Callback]:
    """Return all callbacks in the order in which they must run."""
    chosen = [
        instantiate_node(node, f"callbacks.{name}") for name, node in (cfg.callbacks or {}).items()
    ]
    # early stopping first, because the others need to know whether this is the last epoch
    chosen.sort(key=lambda callback: not isinstance(callback, EarlyStopping))
    # Lightning would put its own Timer behind the checkpoint
    timer = [Timer(max_time)] if max_time else []
    guards = [
        WorkerCores(),
        Compile(),
        Reproducibility(cfg.seed),
        TrainMetrics(),
        NonFinite(folder, cfg.on_nonfinite),
        *timer,
    ]
    profilers = [OperatorProfile(folder)] if cfg.profiler == "pytorch" else []
    # the checkpoint last, so that it saves the state of the others
    last = [Checkpoint(folder, **cfg.checkpoint)] if keep else []
    return [*guards, *chosen, *more, *profilers, *last]
