"""Train a classifier of sentences on all labeled sentences but one, and test it on that one.

python -m src.bench.leave_one_out                               20 seeds, random vectors, frozen
python -m src.bench.leave_one_out model.freeze_vectors=false    random vectors, trained
python -m src.bench.leave_one_out vectors=SWEEP                 pretrained vectors of a sweep:
    python -m src.train -m model=word_vectors data=reviews 'seed=range(0,20)' hydra.sweep.dir=SWEEP

SWEEP/seed=0, SWEEP/seed=1, ... are the runs for seeds 0, 1, ... The command prints the mean
accuracy, its standard deviation over the seeds, and an interval over the sentences. All seeds share
the sentences, so more seeds say nothing about other sentences. The results of each seed are added
to the CSV file out= as soon as they are known. Ten sentences and 20 seeds are 200 training runs.
"""

import csv
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config import cli
from src.config.signatures import class_attribute
from src.core import runs
from src.core.errors import UserError, writing


def leave_one_out(cfg: DictConfig) -> list[list[bool]]:
    """Return whether each labeled sentence was predicted right, a row per seed."""
    if class_attribute(cfg.model._target_, "sentences") != "labeled":
        raise UserError(f"leave_one_out needs model=sentiment, not {cfg.model._target_}")
    sources = [
        str(Path(cfg.vectors).expanduser() / f"seed={seed}") if cfg.vectors else None
        for seed in range(cfg.seeds)
    ]
    for folder in filter(None, sources):
        runs.last_checkpoint(Path(folder))

    from tqdm import tqdm

    from src.engine import build

    out = Path(cfg.out).expanduser()
    cfg = cfg.copy()  # each training run has its own seed and sentence
    cfg.callbacks = cfg.logger = None
    cfg.data.left_out = 0
    data = build.datamodule(cfg)
    n = len(data.train) + len(data.test)
    right: list[list[bool]] = [[] for _ in sources]
    with writing(f"out={out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        file = out.open("w", newline="", encoding="utf-8")
    with file, tempfile.TemporaryDirectory() as scratch:
        table = csv.writer(file)
        table.writerow(["seed", *range(n)])
        for job in tqdm(range(cfg.seeds * n), "leave-one-out", disable=None, leave=False):
            seed, left_out = divmod(job, n)
            cfg.seed = cfg.data.seed = seed
            cfg.data.left_out, cfg.model.init_from = left_out, sources[seed] or cfg.model.init_from
            right[seed].append(_right(cfg, Path(scratch)))
            if len(right[seed]) == n:
                table.writerow([seed, *map(int, right[seed])])
                file.flush()
                tqdm.write(f"seed {seed}: {sum(right[seed])} of {n} right")
    _report(right, out)
    return right


def _report(right: list[list[bool]], out: Path) -> None:
    """Print the accuracy by seed and by sentence."""
    from src.metrics.intervals import mean_interval

    by_seed = [statistics.mean(row) for row in right]
    by_sentence = [statistics.mean(column) for column in zip(*right, strict=True)]
    mean, deviation = statistics.mean(by_seed), statistics.stdev(by_seed)
    low, high = mean_interval(by_sentence)
    print(f"accuracy {mean:.3f}, over {len(by_seed)} seeds ± {deviation:.3f}")
    print(
        f"95% interval over {len(by_sentence)} sentences (Student's t): "
        f"{max(0, low):.3f} to {min(1, high):.3f}"
    )
    print(f"sentence by sentence: {', '.join(f'{share:.2f}' for share in by_sentence)}")
    print(f"predictions: {out}")


def _right(cfg: DictConfig, folder: Path) -> bool:
    """Return whether a net trained on all sentences but cfg.data.left_out is right on that one."""
    import torch

    from src.engine import build

    torch.manual_seed(cfg.seed)
    data = build.datamodule(cfg)
    model: Any = build.model(cfg, data)
    model.load_pretrained(data)
    trainer = build.trainer(cfg, folder, keep=False)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    return bool(trainer.callback_metrics["test/acc"] == 1)


if __name__ == "__main__":
    sys.exit(cli.command("leave_one_out", leave_one_out, __doc__ or ""))
