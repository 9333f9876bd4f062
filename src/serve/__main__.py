"""Serve a trained model: a page, and a JSON API.

python -m src.serve run=RUN                        http://127.0.0.1:8000
python -m src.serve run=RUN port=9000
python -m src.serve run=RUN host=0.0.0.0 token=SECRET   for other machines

The page of a classifier takes photos and names their class. That of a GAN or VAE moves through its
latent space, DRAW paints step by step, CycleGAN and style transfer turn photos into other photos.

The page works without internet. The API is documented at /docs. Nothing that is uploaded is
written to disk. SIGTERM and Ctrl-C let running requests finish. Needs: pip install '.[serve]'
"""

import gc
import math
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config import cli
from src.config.saved import expect_images
from src.core import signals
from src.core.chosen_checkpoint import path_of
from src.core.errors import UserError
from src.core.packages import require
from src.core.waiting import wait_passively

NEEDED = ("fastapi", "fastapi_offline", "multipart", "prometheus_client", "uvicorn")


def serve(cfg: DictConfig) -> None:
    """Serve the run in cfg.run until a signal stops it."""
    require("src.serve", "serve", *NEEDED)
    if cfg.token is None and not is_loopback(cfg.host):
        raise UserError(f"host={cfg.host} lets other machines in: set token=SECRET for them")
    if cfg.token is not None and not cfg.token.isascii():
        raise UserError("token must have ASCII characters only: it is sent in a header")
    folder = Path(cfg.run).expanduser()
    expect_images(folder)
    path_of(folder, cfg.which)
    wait_passively()  # decoders and the event loop need the processors too

    import uvicorn

    from src.serve.app import create_app
    from src.serve.load import load_service
    from src.serve.service import Limits

    limits = Limits(
        cfg.batch_size,
        cfg.queue,
        cfg.timeout,
        cfg.max_megabytes,
        cfg.max_megapixels,
        min(cfg.max_files, cfg.queue),  # more would never fit in the queue
    )
    config = uvicorn.Config(
        create_app(load_service(folder, limits, cfg.which), cfg.token),
        cfg.host,
        cfg.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=math.ceil(cfg.timeout) + 1,  # for a client that sends too slowly
    )
    listener = socket.socket(socket.AF_INET6 if ":" in cfg.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:  # uvicorn would exit here
        listener.bind((cfg.host, cfg.port))
    except OSError as error:
        raise UserError(
            f"host={cfg.host} port={cfg.port} cannot be used: {error.strerror}"
        ) from error
    server = uvicorn.Server(config)

    def stop(number: int, frame: Any) -> None:
        server.should_exit = True  # uvicorn does so too, but only once it runs

    signals.install(stop)
    listener.listen()  # before its address is printed
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    print(f"serving {folder} at http://{host}:{port} (API: /docs); Ctrl-C stops", flush=True)
    gc.collect()
    gc.freeze()  # else the collector would go through all objects of torch again and again
    server.run([listener])
    gc.unfreeze()


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine can reach `host`."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(cli.command("serve", serve, __doc__ or ""))
