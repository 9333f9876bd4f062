"""From a folder of photos to a classifier that recognizes them, and a report on how well.

python -m src.nanonet data.root=PHOTOS               choose, train and report in ten minutes
python -m src.nanonet data.root=PHOTOS budget=1h     compare more thoroughly
python -m src.nanonet data.root=PHOTOS init=RUN      again, with more photos of the same classes
python -m src.nanonet                                  a demonstration on scikit-learn's digits

PHOTOS holds a sub-folder for each class. A folder PHOTOS/test is used once, at the end. Candidates
(conf/candidate) are compared by repeated cross-validation; the best is trained on all photos. The
result is in OUT: report.html, report.json, and the run OUT/run for src.predict, src.export,
src.evaluate and TensorBoard. Ctrl-C keeps what is done; the same command goes on from there.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from src.config import cli
from src.core.types import budget_seconds


def nanonet(cfg: DictConfig) -> Path:
    """Look at the photos, choose a recipe, train it on all of them; return the folder."""
    import torch

    from src.engine.load import load_classifier
    from src.nanonet import photos, project
    from src.nanonet.earlier import Summary, compare
    from src.nanonet.folds import assign_folds
    from src.nanonet.lab import Lab
    from src.nanonet.report import facts, pictures, write_report
    from src.nanonet.search import Search, make_folds
    from src.nanonet.study import study

    with project.opened(cfg) as own:
        found = project.look_at_photos(own, cfg)
        print(photos.table(found), flush=True)
        project.expect_same_photos(own, found)
        labels = torch.tensor(found.labels)
        earlier = project.load_earlier(cfg, found)
        recipes = project.make_recipes(own, cfg, earlier)
        lab = Lab(found.digests, own.search, [Path(cfg.init) / own.search.name] if cfg.init else [])
        assigned = [
            assign_folds(
                found.labels,
                found.groups,
                found.digests,
                cfg.folds,
                cfg.seed + repeat,
                earlier.known_folds(repeat) if earlier else None,
            )
            for repeat in range(cfg.repeats)
        ]
        folds = make_folds(assigned)
        results = Search(
            recipes,
            labels,
            len(found.class_names),
            folds,
            lab.predict,
            own.search,
            budget_seconds(cfg.budget),
        ).run()
        findings = study(results, labels, folds, lab, cfg.seed)
        correct = findings.chosen.correct(labels).tolist()
        recipe = findings.chosen.recipe
        Summary(
            found.class_names, found.digests, assigned, correct, recipe.name, recipe.overrides
        ).save(own.search)
        command = project.train_command(own, cfg, findings, bool(found.test))
        metrics = project.train(own, command)
        project.measure_familiar(own, lab, findings)
        said = facts(
            found,
            results,
            findings,
            labels,
            project.command_line(command),
            metrics if found.test else None,
        )
        said["run"] = str(own.run)
        update = compare(earlier, found.digests, correct) if earlier else None
        said["comparison"] = update and update._asdict()
        shown = pictures(found, findings, labels, load_classifier(own.run))
        write_report(own.folder, said, shown)
    return own.folder


if __name__ == "__main__":
    sys.exit(cli.command("nanonet", nanonet, __doc__ or ""))
