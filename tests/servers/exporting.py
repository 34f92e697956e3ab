"""A gunicorn with an exporter, and scrapers that note each failed scrape."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import threading
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.process import PATIENCE_SECONDS, Gunicorn, Scratch, wait_until

ANY_PORT = "127.0.0.1:0"


def ask(
    port: int, path: str = "/metrics", *, tls: ssl.SSLContext | None = None, **headers: str
) -> tuple[int, bytes]:
    """Send one request on a connection of its own; return status and body."""
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS, context=tls)
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    )
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()


class Exporting(Gunicorn):
    """A gunicorn whose environment asks for an exporter.

    Args:
        place: Where its files are.
        arguments: More of its command line.
        bind: Where the exporter is to listen; None for where the rest says.
        options: As for Gunicorn.

    Attributes:
        metrics_port: Where the exporter listens.
    """

    def __init__(self, place: Scratch, *arguments: str, bind: str | None = ANY_PORT, **options: Any) -> None:
        environ = {**({"PROM_BIND": bind} if bind else {}), **options.pop("environ", {})}
        super().__init__(place, *arguments, environ=environ, **options)

    def __enter__(self) -> Exporting:
        super().__enter__()
        try:
            self.metrics_port = self.wait_for_exporters(1)
        except BaseException:
            self._kill()
            raise
        return self

    def wait_for_exporters(self, count: int) -> int:
        """Wait until so many exporters were started in all; return the port of the last."""
        wait_until(lambda: len(self._ports()) >= count, f"{count} exporters", shown=self.log)
        return int(self._ports()[-1])

    def _ports(self) -> list[str]:
        return re.findall(r"Metrics at: https?://\S*?:(\d+)/", self.log())

    def exporters(self) -> list[int]:
        """Return the exporter processes that are alive."""
        return self._running("serve")

    def supervisors(self) -> list[int]:
        """Return the supervisor processes that are alive."""
        return self._running("web_prom.exporter.supervisor")

    def servers(self) -> list[int]:
        """Return gunicorn's own processes that are alive."""
        return sorted(set(self.processes()) - {*self.exporters(), *self.supervisors()})

    def exported(self) -> dict[str, Metric]:
        """Return the families of one scrape of the exporter."""
        status, body = ask(self.metrics_port)
        assert status == 200, self.log()
        return {family.name: family for family in text_string_to_metric_families(body.decode())}

    def total(self, name: str, family: str | None = None) -> float:
        """Return the sum of a metric's samples in a scrape of the exporter."""
        found = self.exported().get(family or name.removesuffix("_total"))
        return sum(sample.value for sample in found.samples if sample.name == name) if found else 0.0

    def _running(self, word: str) -> list[int]:
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                if word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:4]:
                    found.append(pid)
        return found


class Scrapers:
    """Scrapers on new connections and on a persistent one, many times a second, as a context manager.

    Attributes:
        answers: How many answers came.
        failures: What went wrong.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._scrape, args=(stay,)) for stay in (False, False, True)]
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> Scrapers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int = 20) -> None:
        """Wait until so many more answers came."""
        wanted = self.answers + count
        wait_until(lambda: self.answers >= wanted or self.failures, f"{count} more answers")

    def _scrape(self, stay: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            while not self._ended.is_set():
                used = connection.sock is not None
                try:
                    connection.request("GET", "/metrics")
                    response = connection.getresponse()
                    body = response.read()
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    # Either side may close an idle connection. Prometheus repeats the request, too.
                    if not (used and stay and isinstance(error, ConnectionError)):
                        self.failures.append(repr(error))
                    continue
                if response.status != 200 or not body.endswith(b"\n"):
                    self.failures.append(f"{response.status} {body!r}")
                self.answers += 1
                if not stay:
                    connection.close()
                # Without a pause they take the processor from the servers, which then start later.
                self._ended.wait(0.01)


def listening_inode(port: int) -> str:
    """Return the inode of the socket that listens at a port of this machine."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
            return fields[9]
    raise AssertionError(f"nothing listens at port {port}")


def descriptors(pid: int) -> list[str]:
    """Return the targets of a process's file descriptors."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(path))
    return found
