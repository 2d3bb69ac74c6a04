"""A real MLflow server on SQLite for the tests: started, asked until it answers, ended."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "build" / "mlflow" / "bin" / "mlflow"
START_S = 150.0


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The address of a server whose database and artifacts lie in the folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    for _attempt in range(3):
        port = free_port()
        command = [
            str(PROGRAM), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination", str(folder / "artifacts"),
        ]  # fmt: skip
        log = folder / "server.log"
        with open(log, "wb") as out:
            server = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=folder)
        try:
            address = f"http://127.0.0.1:{port}"
            if _answers(server, address):
                yield address
                return
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        text = log.read_text(errors="replace")
        assert "address already in use" in text.lower(), text[-3000:]
    raise AssertionError("three free ports were taken by others before the server had them")


def _answers(server: subprocess.Popen[bytes], address: str) -> bool:
    """True as soon as it does; False when the process ended before."""
    deadline = time.monotonic() + START_S
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, f"the MLflow server is not up after {START_S} s"
            time.sleep(0.05)  # asks again until the deadline
    return False
