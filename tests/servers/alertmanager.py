"""Alertmanager as a real process, and a webhook that keeps what it is sent."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.programs import needs_program
from tests.servers.process import PATIENCE_SECONDS, wait_until


class Webhook:
    """A receiver of alerts on loopback, as a context manager.

    Attributes:
        url: Its address.
        alerts: All alerts of all posts, in order.
    """

    url: str

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []

    def __enter__(self) -> Webhook:
        alerts = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                alerts.extend(json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Alertmanager:
    """A running Alertmanager that posts all alerts to a webhook at once, as a context manager.

    Args:
        folder: Where its files are.
        webhook: The address.

    Attributes:
        port: Where it listens, on loopback.
    """

    port: int

    def __init__(self, folder: Path, webhook: str) -> None:
        self._program = needs_program("prometheus-alertmanager", package="prometheus-alertmanager")
        self._folder = folder
        self._log = folder / "alertmanager.txt"
        route = "{receiver: test, group_by: [job, alertname], group_wait: 0s, group_interval: 1s}"
        receiver = f"{{name: test, webhook_configs: [{{url: '{webhook}'}}]}}"
        (folder / "alertmanager.yml").write_text(f"route: {route}\nreceivers: [{receiver}]\n")

    def __enter__(self) -> Alertmanager:
        options = {
            "config.file": self._folder / "alertmanager.yml",
            "storage.path": self._folder / "alertmanager",
            "web.listen-address": "127.0.0.1:0",
            "cluster.listen-address": "",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, *(f"--{name}={value}" for name, value in options.items())],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        try:
            self.port = int(wait_until(self._listening, "Alertmanager", shown=self.log)[1])
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def log(self) -> str:
        """Return what it wrote to stdout and stderr so far."""
        return self._log.read_text("utf-8", "replace")

    def _listening(self) -> re.Match[str] | None:
        assert self._process.poll() is None, self.log()
        return re.search(r'"?Listening on"? address=127\.0\.0\.1:(\d+)', self.log())

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)
