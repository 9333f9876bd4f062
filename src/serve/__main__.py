"""Serve a trained classifier: a page on which to drop photos, and a JSON API.

python -m src.serve run=RUN                        http://127.0.0.1:8000
python -m src.serve run=RUN port=9000
python -m src.serve run=RUN host=0.0.0.0 token=SECRET   for other machines

The page works without internet. The API is documented at /docs. Nothing that is uploaded is
written to disk. SIGTERM and Ctrl-C let running requests finish. Needs: pip install '.[serve]'
"""

import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from src.config import cli
from src.config.saved import expect_classifier
from src.core import runs
from src.core.errors import UserError

if TYPE_CHECKING:
    from src.engine.load import LoadedClassifier

NEEDED = ("fastapi", "fastapi_offline", "multipart", "prometheus_client", "uvicorn")


def serve(cfg: DictConfig) -> None:
    """Serve the classifier in cfg.run until a signal stops it."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UserError(f"{', '.join(missing)} not installed: pip install '.[serve]'")
    if cfg.token is None and not is_loopback(cfg.host):
        raise UserError(f"host={cfg.host} lets other machines in: set token=SECRET for them")
    folder = Path(cfg.run).expanduser()
    expect_classifier(folder)

    import uvicorn

    from src.engine.load import load_classifier
    from src.serve.app import Limits, Service, create_app

    trained = load_classifier(folder)
    limits = Limits(
        cfg.batch_size,
        cfg.queue,
        cfg.timeout,
        cfg.max_megabytes,
        cfg.max_megapixels,
        cfg.max_files,
    )
    app = create_app(Service(trained, about(folder, trained), limits), cfg.token)
    config = uvicorn.Config(app, cfg.host, cfg.port, log_level="warning")
    try:
        socket = config.bind_socket()
    except SystemExit as error:  # uvicorn has printed why
        raise UserError(f"host={cfg.host} port={cfg.port} cannot be used") from error
    socket.listen()  # before its address is printed
    host, port = socket.getsockname()[:2]
    print(f"serving {folder} at http://{host}:{port} (API: /docs); Ctrl-C stops", flush=True)
    uvicorn.Server(config).run([socket])


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine can reach `host`."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def about(folder: Path, trained: "LoadedClassifier") -> dict[str, Any]:
    """Return facts about a run: classes, network, accuracy with its interval, date."""
    metrics, cfg = runs.read_metrics(folder), runs.load_config(folder)
    kinds = [name for name in ("test/acc", "val/acc") if name in metrics]
    measured = {
        f"accuracy{end}": metrics.get(f"{kind}{end}")
        for kind in kinds[:1]
        for end in ("", "_low", "_high")
    }
    trained_at = datetime.fromtimestamp(runs.last_checkpoint(folder).stat().st_mtime, UTC)
    return {
        "classes": trained.class_names,
        "net": str(cfg.model.net.get("model_name", cfg.model.net._target_.rpartition(".")[2])),
        "size": list(trained.size),
        **measured,
        "trained": trained_at.isoformat(timespec="seconds"),
        "recognizes_unlike_images": trained.familiar is not None,
    }


if __name__ == "__main__":
    sys.exit(cli.command("serve", serve, __doc__ or ""))
