"""Measure a finished run again, on its test set; what it prints goes into the run's metrics.json.

python -m src.evaluate run=DIR                   the run's own test
python -m src.evaluate run=DIR n=2000 seed=1     fewer samples, another noise
python -m src.evaluate run=DIR iwae_samples=100  DRAW: the importance-weighted estimate beside the bound
python -m src.evaluate run=DIR root=DATA         the data lie elsewhere now
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from src import cli, run
from src.errors import UserError

PLACES = ("root", "root_a", "root_b", "content", "style")  # where data lie


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Test the run in cfg.run; returns the figures."""
    folder = Path(cfg.run).expanduser()
    run.last_checkpoint(folder)

    from src import build
    from src.callbacks.likelihood import ImportanceWeighted
    from src.callbacks.report import headline_lines

    run_cfg, model, _ = build.opened(folder)
    for key in PLACES:
        if cfg[key] is not None:
            if key not in run_cfg.data:
                there = ", ".join(key for key in PLACES if key in run_cfg.data)
                raise UserError(
                    f"{key}={cfg[key]}: the run's data={run_cfg.data.name} lie in {there}"
                )
            run_cfg.data[key] = cfg[key]
    if "quality" in (run_cfg.callbacks or {}):
        run_cfg.callbacks.quality.update(
            {"n": cfg.n or run_cfg.callbacks.quality.n, "seed": cfg.seed}
        )
    run_cfg.logger = None
    data = build.data(run_cfg, run.load_last(folder))
    build.expect_test(data)
    estimates = (
        [ImportanceWeighted(cfg.iwae_samples, cfg.iwae_rows, cfg.seed)] if cfg.iwae_samples else []
    )
    trainer = build.trainer(run_cfg, folder, *estimates)
    with build.refusals():
        trainer.test(model, datamodule=data, verbose=False)
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if cfg.iwae_samples is not None:
        values["iwae_samples"] = cfg.iwae_samples
    print("\n".join(headline_lines(values)))  # before they are written: that may fail
    run.write_metrics(folder, values)
    print(f"numbers: {folder / 'metrics.json'}")
    return values


if __name__ == "__main__":
    sys.exit(cli.command("evaluate", evaluate, __doc__ or ""))
