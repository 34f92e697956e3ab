"""The commands of docs/how-to/servers.rst, with a free port and fewer workers."""

from __future__ import annotations

import re
import shlex
import sys
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.servers.process import ROOT

WORKERS = 2

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR=/run/shop"
_COMMAND = re.compile(
    rf"^    (?:{_VARIABLE} )?(?P<program>gunicorn|uvicorn|hypercorn|granian) .* asgi_shop:app$",
    re.MULTILINE,
)
# The options for the port; without them each listens on port 8000 of loopback. A busy machine may
# take longer than the five seconds that uvicorn waits for a new worker. gunicorn's ASGI worker sometimes
# waits until its timeout for a connection that the client has closed.
_OPTIONS = {
    "gunicorn": ["--bind=127.0.0.1:{}", "--graceful-timeout=2"],
    "uvicorn": ["--port={}", "--timeout-worker-healthcheck=20"],
    "hypercorn": ["--bind=127.0.0.1:{}"],
    "granian": ["--port={}"],
}


class Documented(NamedTuple):
    """A command that the page shows for examples/servers/asgi_shop.py.

    Attributes:
        line: As it stands there.
        program: Its first word, save for variables.
    """

    line: str
    program: str

    @property
    def has_hooks(self) -> bool:
        """Whether the server calls web-prom's hooks; the others need the environment variable."""
        return "web_prom.gunicorn" in self.line

    def serving(self, app: str | None = None) -> Callable[[int], list[str]]:
        """Return what gives the command line for a port, for this application or for another one."""

        def command(port: int) -> list[str]:
            words = shlex.split(self.line.strip().removeprefix(_VARIABLE))
            words[words.index("--workers") + 1] = str(WORKERS)
            options = [option.format(port) for option in _OPTIONS[self.program]]
            script = str(Path(sysconfig.get_path("scripts"), self.program))
            return [sys.executable, script, *words[1:-1], *options, app or words[-1]]

        return command


def commands() -> dict[str, Documented]:
    """Return the page's commands for ASGI servers, by a short name."""
    text = (ROOT / "docs" / "how-to" / "servers.rst").read_text("utf-8")
    found = [Documented(match[0], match["program"]) for match in _COMMAND.finditer(text)]
    return {_name(each): each for each in found}


def requirements(name: str) -> list[pytest.MarkDecorator]:
    """Return what marks the tests of a command that an old release does not have."""
    missing = name == "gunicorn-asgi" and find_spec("gunicorn.workers.gasgi") is None
    return [pytest.mark.skip(reason="this gunicorn has no such worker")] if missing else []


def _name(command: Documented) -> str:
    worker_class = re.search(r"--worker-class (\w+)", command.line)
    return f"{command.program}-{worker_class[1]}" if worker_class else command.program
