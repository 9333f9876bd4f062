"""A private PostgreSQL server for the tests."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda p: int(p.parent.name))
INITDB = shutil.which("initdb") or (BIN and shutil.which("initdb", path=str(BIN)))
NOT_HERE = "initdb is missing: apt-get install --no-install-recommends postgresql"


class Server:
    """A server in a temporary folder that listens on 127.0.0.1, with the user `atelier`.

    PostgreSQL refuses to run as root; then it runs as `nobody`.

    Attributes:
        url: of its database.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-postgres-"))
        owner: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"postgresql://atelier@127.0.0.1:{port}/postgres"
        data = self.folder / "data"
        common: dict[str, Any] = {"cwd": self.folder, **owner}
        subprocess.run(
            [INITDB, "--pgdata", data, "--username=atelier", "--auth=trust", "--no-sync"],
            check=True, capture_output=True, **common,
        )  # fmt: skip
        program = Path(INITDB).resolve().with_name("postgres")
        log = (self.folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [program, "-D", data, "-p", str(port), "-k", self.folder, "-h", "127.0.0.1"],
            stdout=log, stderr=log, **common,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while "ready to accept connections" not in (self.folder / "server.log").read_text():
            assert time.monotonic() < deadline
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # does not wait for its clients
        self.process.wait(60)
        shutil.rmtree(self.folder)
