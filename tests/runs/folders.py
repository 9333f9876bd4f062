"""Folders that look like runs."""

import json

from src.core import run_record

MODELS = {"dcgan": "src.models.gan.GAN", "fc": "src.models.classifier.Classifier"}


def make_run(
    folder,
    model="fc",
    state="finished",
    metrics=None,
    curves=(),
    started="2026-11-26T07:00:00.000+00:00",
    settings=None,
    checkpoint=True,
    **more,
):
    """Write run.json, metrics and an empty checkpoint into `folder`; return it.

    Args:
        metrics: content of metrics.json; None: no file.
        curves: rows of metrics.csv, as dicts.
        settings: dotted top-level settings besides model, data, seed.
        more: further entries of the session.
    """
    folder.mkdir(parents=True)
    plain = {
        "seed": 0, "name": None, "tags": [], "note": None, "out": str(folder.parent),
        "model": {"_target_": MODELS[model], "lr": 0.1}, "data": {"name": "digits"},
    }  # fmt: skip
    for key, value in (settings or {}).items():
        group, _, name = key.rpartition(".")
        (plain[group] if group else plain)[name] = value
    session = {"state": state, "started": started, "seconds": 10.0, "commit": "abcdef1234567890",
               "diff": "", **more}  # fmt: skip
    record = {"settings": plain, "choices": {"model": model}, "sessions": [session]}
    (folder / run_record.NAME).write_text(json.dumps(record))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    if curves:
        columns = ["batches", *sorted({name for row in curves for name in row} - {"batches"})]
        rows = [",".join(str(row.get(name, "")) for name in columns) for row in curves]
        (folder / "metrics.csv").write_text("\n".join([",".join(columns), *rows]) + "\n")
    if checkpoint:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.ckpt").write_text("")
    return folder
