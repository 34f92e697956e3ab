"""Alertmanager as a real process, and a webhook that keeps what it is sent."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.servers.listening import ListeningProgram


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


class Alertmanager(ListeningProgram):
    """A running Alertmanager that posts all alerts to a webhook at once, as a context manager.

    Args:
        folder: Where its files are.
        webhook: The address.
    """

    def __init__(self, folder: Path, webhook: str) -> None:
        options = {
            "config.file": folder / "alertmanager.yml",
            "storage.path": folder / "alertmanager",
            "cluster.listen-address": "",
        }
        name = "prometheus-alertmanager"
        super().__init__(name, package=name, folder=folder, options=options)
        route = "{receiver: test, group_by: [job, alertname], group_wait: 0s, group_interval: 1s}"
        receiver = f"{{name: test, webhook_configs: [{{url: '{webhook}'}}]}}"
        (folder / "alertmanager.yml").write_text(f"route: {route}\nreceivers: [{receiver}]\n")
