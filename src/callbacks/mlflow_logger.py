"""Values and pictures of a run in MLflow: a database below `out`, or a tracking server."""

import logging
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from src.callbacks.loggers import batches_at
from src.callbacks.outbox import Outbox, Point
from src.core import run_record
from src.core.errors import Interrupted, UserError, first_line
from src.core.runs import is_first_process

log = logging.getLogger(__name__)

FILE = "sqlite:///"
AT_ONCE = 1000  # metrics that MLflow takes in one call
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is down must not stop training
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class MLflow(Logger):
    """A run of MLflow with the settings, metrics and pictures of ours.

    A resumed run continues it. Values that cannot be sent wait, and training goes on.

    Args:
        folder: the run's folder.
        batches_done: not used: `Outbox` knows what was sent.
        uri: the tracking URI of MLflow, such as sqlite:///FILE or http://HOST:PORT. Files beside
            an SQLite database hold the pictures.
        experiment: name of the experiment, which is made if it does not exist.
    """

    package: ClassVar[str] = "mlflow"

    def __init__(self, folder: Path, batches_done: int, uri: str, experiment: str) -> None:
        super().__init__()
        self.folder, self.uri, self.experiment_name = folder, uri, experiment
        self.outbox = Outbox(folder / "mlflow.json")
        self.warned = False
        self.client: Any = None
        if is_first_process():
            try:
                self._start()
            except Exception as error:  # MLflow and its database can raise any exception type
                raise UserError(f"MLflow cannot use {uri}: {first_line(error)}") from error

    @property
    def name(self) -> str:
        return self.experiment_name

    @property
    def version(self) -> str | None:
        return self.outbox.run_id

    @property
    def run_id(self) -> str:
        assert self.outbox.run_id is not None
        return self.outbox.run_id

    def _start(self) -> None:
        """Connect, and make the run or continue it."""
        for variable, value in ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        from mlflow import MlflowClient  # takes seconds

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if self.uri.startswith(FILE):
            Path(self.uri.removeprefix(FILE)).parent.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(self.uri)
        if self.outbox.run_id is None:
            settings = run_record.read(self.folder).get("settings", {})
            tags = {"folder": str(self.folder), "mlflow.source.name": " ".join(sys.argv)}
            tags |= dict.fromkeys(settings.get("tags") or [], "true")
            if settings.get("note"):
                tags["mlflow.note.content"] = settings["note"]
            name = settings.get("name") or "/".join(self.folder.absolute().parts[-2:])
            run = self.client.create_run(self._experiment_id(), run_name=name, tags=tags)
            self.outbox.run_id = run.info.run_id
            self.outbox.write()
        else:
            self.client.update_run(self.run_id, status="RUNNING")
        if (config := self.folder / ".hydra" / "config.yaml").is_file():
            self.client.log_artifact(self.run_id, str(config))

    def _experiment_id(self) -> str:
        """Return the id of the experiment. Its pictures go beside the database."""
        found = self.client.get_experiment_by_name(self.experiment_name)
        if found is not None:
            return str(found.experiment_id)
        place = None
        if self.uri.startswith(FILE):
            database = Path(self.uri.removeprefix(FILE)).absolute()
            place = (database.parent / "mlflow_files").as_uri()
        return str(self.client.create_experiment(self.experiment_name, artifact_location=place))

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Send the settings. MLflow refuses new values for those that it has."""
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        new = [Param(key, str(value)) for key, value in params.items() if key not in known]
        for start in range(0, len(new), 100):
            self.client.log_batch(self.run_id, params=new[start : start + 100])

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        self.outbox.add(batches_at(metrics, step), values)
        if self.outbox.is_due:
            self.save()

    @rank_zero_only
    def log_image(self, key: str, images: list[np.ndarray], step: int | None = None) -> None:
        for image in images:
            self.outbox.add(step or 0, {key: image})

    @rank_zero_only
    def log_final(self, settings: dict[str, Any], metrics: dict[str, float]) -> None:
        """Send the metrics of the finished run that it has not logged."""
        self.finalize("success")
        try:
            known = self.client.get_run(self.run_id).data.metrics
        except Exception as error:  # as in `save`
            text = "MLflow did not get the final metrics (%s); they are in metrics.json"
            log.warning(text, first_line(error))
            return
        new = {key: value for key, value in metrics.items() if allowed_name(key) not in known}
        self.outbox.add(max(self.outbox.batches, 0), new)
        self.save()

    @rank_zero_only
    def save(self) -> None:
        """Send what waits; if that fails, try again later."""
        points = self.outbox.take()
        numbers = [point for point in points if isinstance(point.value, float)]
        pictures = [point for point in points if not isinstance(point.value, float)]
        try:
            while numbers:
                self._send_numbers(numbers[:AT_ONCE])
                del numbers[:AT_ONCE]
            while pictures:
                batches, tag, image = pictures[0]
                self.client.log_image(self.run_id, image, key=allowed_name(tag), step=batches)
                del pictures[0]
        except Exception as error:  # MLflow, its database and the network can raise any type
            self.outbox.put_back([*numbers, *pictures])
            if not self.warned:
                self.warned = True
                log.warning("MLflow does not answer (%s); trying again later", first_line(error))

    def _send_numbers(self, points: list[Point]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(allowed_name(tag), value, now, n) for n, tag, value in points]
        self.client.log_batch(self.run_id, metrics=metrics)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
        state = {"success": "FINISHED", "finished": "FINISHED"}.get(status, "FAILED")
        if isinstance(sys.exc_info()[1], Interrupted | KeyboardInterrupt):
            state = "KILLED"
        try:
            self.client.set_terminated(self.run_id, state)
        except Exception as error:  # as in `save`
            log.warning("MLflow does not answer (%s)", first_line(error))

    def how_to_open(self) -> str:
        """Return a line that says how to see the run."""
        if self.uri.startswith("http"):
            return f"MLflow       {self.uri}"
        return f"MLflow       mlflow ui --backend-store-uri {shlex.quote(self.uri)}"


def allowed_name(tag: str) -> str:
    """Return `tag` with characters that MLflow allows in the name of a metric."""
    return re.sub(r"[^\w\-. :/]", "_", tag)
