"""Types of gunicorn's objects, as far as the hooks and the exporter use them."""

from __future__ import annotations

from collections.abc import MutableMapping
from logging import Logger
from typing import Any, Protocol


class GunicornLog(Protocol):
    """gunicorn's log (``gunicorn.glogging.Logger``)."""

    error_log: Logger

    def error(self, message: str, /, *arguments: Any) -> None:
        """Log an error."""

    def warning(self, message: str, /, *arguments: Any) -> None:
        """Log a warning."""


class GunicornConfig(Protocol):
    """gunicorn's settings (``gunicorn.config.Config``)."""

    env_orig: MutableMapping[str, str]
    """The environment in which gunicorn was started. A server that replaces this one gets it."""

    @property
    def env(self) -> MutableMapping[str, str]:
        """The variables of ``raw_env`` and ``--env``."""

    @property
    def raw_env(self) -> list[str]:
        """The setting of this name: a list of ``NAME=value``."""

    @property
    def uid(self) -> int:
        """The user of the workers."""

    @property
    def gid(self) -> int:
        """The group of the workers."""

    @property
    def initgroups(self) -> bool:
        """Whether the workers get all groups of their user."""

    def set(self, name: str, value: object) -> None:
        """Change a setting."""


class GunicornWorker(Protocol):
    """A worker (``gunicorn.workers.base.Worker``)."""

    pid: int
    log: GunicornLog


class GunicornServer(Protocol):
    """The master (``gunicorn.arbiter.Arbiter``).

    Attributes:
        WORKERS: The living workers by process id.
    """

    cfg: GunicornConfig
    log: GunicornLog
    WORKERS: dict[int, GunicornWorker]
