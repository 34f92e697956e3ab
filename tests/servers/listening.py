"""Prometheus or Alertmanager as a real process."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.programs import needs_program
from tests.servers.process import PATIENCE_SECONDS, wait_until

if TYPE_CHECKING:
    from typing_extensions import Self


class ListeningProgram:
    """A running program, as a context manager: ready at the start of the block, ended after it.

    Args:
        name: Its name.
        package: Debian's package that brings it.
        folder: Where its files and its log are.
        options: The options of its command line by name.
        more: More of its command line.

    Attributes:
        port: Where it listens, on loopback.
    """

    port: int

    def __init__(self, name: str, *more: str, package: str, folder: Path, options: Mapping[str, Any]) -> None:
        program = needs_program(name, package=package)
        every = {**options, "web.listen-address": "127.0.0.1:0"}
        self._command = [program, *(f"--{option}={value}" for option, value in every.items()), *more]
        self._folder = folder
        self._log = folder / f"{name}.txt"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder
            )
        try:
            self.port = int(wait_until(self._listening, self._log.stem, shown=self.log)[1])
            wait_until(self._is_ready, f"{self._log.stem} to be ready", shown=self.log)
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
        return re.search(r'"?Listening on"? .*address=127\.0\.0\.1:(\d+)', self.log())

    def _is_ready(self) -> bool:
        return True

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)
