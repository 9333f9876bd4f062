"""From a folder of photos to a classifier that recognizes them, and a report on how well.

python -m src.nanonet data.root=PHOTOS               choose, train and report in ten minutes
python -m src.nanonet data.root=PHOTOS budget=1h     compare more thoroughly
python -m src.nanonet data.root=MORE_PHOTOS init=runs/nanonet/PHOTOS   with more photos
python -m src.nanonet                                  a demonstration on scikit-learn's digits

PHOTOS holds a sub-folder for each class; or PHOTOS/train and PHOTOS/test do, and test is used once,
at the end. Candidates (conf/candidate) are compared by repeated cross-validation; the best is
trained on all photos. The result is in OUT: report.html, report.json, and the run OUT/run for
src.predict, src.export, src.evaluate and TensorBoard. Ctrl-C keeps what is done; the same command
goes on from there.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from src.config import cli
from src.core.errors import Interrupted
from src.core.types import budget_seconds


def nanonet(cfg: DictConfig) -> Path:
    """Look at the photos, choose a recipe, train it on all of them; return the folder."""
    import torch

    from src.nanonet import project
    from src.nanonet.folds import make_folds
    from src.nanonet.lab import Lab
    from src.nanonet.photos import table
    from src.nanonet.report import report
    from src.nanonet.search import Search
    from src.nanonet.study import study

    with project.opened(cfg) as own:
        photos = project.look_at_photos(own, cfg)
        print(table(photos), flush=True)
        labels, classes = torch.tensor(photos.labels), len(photos.class_names)

        earlier = project.load_earlier(cfg, photos)
        assigned = project.assign_all_folds(cfg, photos, earlier)
        folds = make_folds(assigned)
        lab = Lab(photos.digests, own.search, project.earlier_folders(cfg))
        recipes = project.make_recipes(own, cfg, photos, earlier)
        seconds = budget_seconds(cfg.budget)
        search = Search(
            recipes, labels, classes, folds, lab.predict, lab.prepare, own.search, seconds
        )
        results = search.run()

        findings = study(results, labels, folds, lab, cfg.seed, seconds / 2)
        summary = project.summarize(photos, assigned, findings)
        summary.save(own.search)
        command = project.train_command(own, cfg, findings, has_test=bool(photos.test))
        try:
            metrics = project.train(own, command, findings)
        except Interrupted:
            print("or repeat the command of src.nanonet, which also writes the report", flush=True)
            raise
        project.measure_familiar(own, lab, findings)
        report(own, photos, results, findings, command, metrics, summary, earlier)
    return own.folder


if __name__ == "__main__":
    sys.exit(cli.command("nanonet", nanonet, __doc__ or ""))
