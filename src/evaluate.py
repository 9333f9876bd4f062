"""Evaluate a finished run again on its test set, and update the run's metrics.json.

python -m src.evaluate run=DIR                   the test at the end of training, again
python -m src.evaluate run=DIR n=50000 seed=1    another number of samples, another seed
python -m src.evaluate run=DIR inception=true    also FID, KID and Inception Score on Inception
python -m src.evaluate run=DIR iwae_samples=100  also the importance-weighted estimate (DRAW, VAE)
python -m src.evaluate run=DIR which=best        the best checkpoint, as best/test/... metrics
python -m src.evaluate run=DIR data.root=DATA    if the data has moved

metrics.json says how many images each metric is based on: `test/n` images; `test/samples` samples
and the same number of real images for fid_own and related metrics; `test/inception_samples`;
`test/iwae_samples` draws per image. A result that is based on fewer images than the one in
metrics.json is printed, but not saved (n=500 if its test/fid_own has 10,000). Otherwise it replaces
the old one. A classifier's images/test_*.png are drawn again; which=best draws best_test_*.png.
"""

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config import cli
from src.core import runs
from src.core.chosen_checkpoint import load_chosen, path_of
from src.core.errors import UserError
from src.core.packages import require


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Test the run in cfg.run; return its metrics."""
    folder = Path(cfg.run).expanduser()
    path_of(folder, cfg.which)
    if cfg.inception:
        require("inception=true", "inception", "torch_fidelity")

    from src.callbacks.final_metrics import basis, headline_lines, keep_larger
    from src.callbacks.likelihood import ImportanceWeighted
    from src.callbacks.prediction_gallery import PredictionGallery
    from src.callbacks.protocols import CanSample
    from src.callbacks.trainer_state import callbacks
    from src.engine import build
    from src.engine.checks import expect_test_set
    from src.engine.fit import test
    from src.engine.load import load_run
    from src.engine.resume import batches_done

    run_cfg, model, _ = load_run(folder, lambda run_cfg: _change(run_cfg, cfg), cfg.which)
    key = "n" if cfg.n else "inception"
    if cfg[key] and not isinstance(model, CanSample):
        raise UserError(f"{key}={cfg[key]} has no effect: a {type(model).__name__} cannot sample")
    checkpoint = load_chosen(folder, cfg.which)
    data = build.datamodule(run_cfg, checkpoint)
    expect_test_set(data)
    noise = run_cfg.seed if cfg.seed is None else cfg.seed
    estimates = (
        [ImportanceWeighted(cfg.iwae_samples, cfg.iwae_rows, noise)] if cfg.iwae_samples else []
    )
    trainer = build.trainer(run_cfg, folder, *estimates)
    batches = batches_done(checkpoint)
    done: Any = trainer.fit_loop.epoch_loop.batch_progress.total
    done.processed = batches  # the titles of pictures show it
    for callback in callbacks(trainer) if cfg.which == "best" else []:
        if isinstance(callback, PredictionGallery):
            callback.prefix = "best_"
    metrics = test(trainer, model, data)
    counts, based_on = basis(trainer)
    values = metrics | counts
    runs.move_damaged_metrics(folder)
    prefix = "best/" if cfg.which == "best" else ""
    saved = runs.read_metrics(folder)
    before = _with_prefix(saved, prefix)
    if before.get("batches") not in (None, batches):  # the metrics are of other weights
        before, stale = {}, ("best/test",) if prefix else ("train", "val", "test")
        saved = {name: value for name, value in saved.items() if not name.startswith(stale)}
    kept, refused = keep_larger(before, values, based_on)
    print("\n".join([*headline_lines(values), *refused]))  # before writing them, which may fail
    kept["batches"] = batches
    new = {f"{prefix}{name}": value for name, value in kept.items()}
    runs.write_metrics(folder, saved | new, merge=False)
    print(f"metrics: {folder / 'metrics.json'}")
    return values


def _with_prefix(metrics: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the metrics whose names start with `prefix`, without it."""
    start = len(prefix)
    return {name[start:]: value for name, value in metrics.items() if name.startswith(prefix)}


def _change(run_cfg: DictConfig, cfg: DictConfig) -> None:
    """Apply the settings of the command line to the run's config."""
    from src.engine.load import move_data

    move_data(run_cfg, cfg.data)
    asked = {name: cfg[name] for name in ("n", "seed", "inception") if cfg[name] is not None}
    if "quality" in (run_cfg.callbacks or {}):
        run_cfg.callbacks.quality.update(asked)
    elif cfg.n or cfg.inception:
        key = "n" if cfg.n else "inception"
        raise UserError(
            f"{key}={cfg[key]} has no effect: the run has no callback quality, which draws samples"
        )
    run_cfg.logger, run_cfg.profiler = {}, None
    trainer = run_cfg.trainer
    if trainer.accelerator != "cpu":  # the run may have trained on a GPU that is not here
        trainer.accelerator = "auto"
    trainer.update({"devices": 1, "num_nodes": 1, "strategy": "auto"})


if __name__ == "__main__":
    sys.exit(cli.command("evaluate", evaluate, __doc__ or ""))
