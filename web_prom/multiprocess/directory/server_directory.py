"""A server's use of the shared directory, from its start to its end, over reloads and upgrades."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from web_prom.multiprocess.directory.environment import DIR_VARIABLE, configured_directory
from web_prom.multiprocess.directory.shared_directory import SharedDirectory, is_private


class Deployment:
    """The directory that this server and its workers share, and those that its older workers still use.

    There is one in a server process, see :func:`begin`; forked workers inherit it and never end it. Not
    meant to be shared between threads.

    Attributes:
        directory: Where new workers write.
        owner: The process id of the server.
    """

    def __init__(self) -> None:
        path = configured_directory()
        # A private directory that is gone has no other user left; its old name is not to be trusted.
        gone = is_private(path) and not Path(path).is_dir()
        self.directory = SharedDirectory(path) if path and not gone else SharedDirectory.make_private()
        self._former: list[SharedDirectory] = []
        self.owner = os.getpid()
        self.pass_on(os.environ)
        atexit.register(self.end)

    @property
    def directories(self) -> list[SharedDirectory]:
        """All directories that workers of this server may write to, the newest first."""
        return [self.directory, *self._former]

    def own(self) -> None:
        """Make this process the one whose end is the deployment's end: a daemon forks after it began."""
        self.owner = os.getpid()

    def move(self, path: str | Path, *, in_use: bool) -> None:
        """Use another directory from now on.

        Args:
            path: The directory; nothing happens if it is the present one.
            in_use: Whether workers are alive that write to the present one, which is then kept.

        Raises:
            DirectoryError: It cannot be used; everything is as before.
        """
        if Path(path).absolute() == self.directory.path:
            return
        joined = SharedDirectory(path)
        if in_use:
            self._former.insert(0, self.directory)
        else:
            self.directory.leave()
        self.directory = joined

    def pass_on(self, environ: MutableMapping[str, str]) -> None:
        """Name the directory in an environment, for workers or for the server that replaces this one."""
        environ[DIR_VARIABLE] = str(self.directory.path)

    def end(self) -> None:
        """Leave all directories, if this is the server process itself. Never raises."""
        if os.getpid() == self.owner:
            for directory in self.directories:
                directory.leave()


_current: Deployment | None = None
_server: int | None = None


def begin() -> Deployment:
    """Return this process's deployment; the first call makes it and names its directory in ``os.environ``.

    Raises:
        DirectoryError: The directory that the environment names cannot be used.
    """
    global _current  # noqa: PLW0603 - a server is one process, and gunicorn reads a -c file again on HUP
    if _current is None:
        _current = Deployment()
    return _current


def server_of(pid: int) -> None:
    """Say which process is the server's own: for an exporter, which is no child of it."""
    global _server  # noqa: PLW0603 - an exporter has one server
    _server = pid


def server_pid() -> int | None:
    """Return the process id of the server's own process, which takes no requests; None if that is not known.

    It is known for gunicorn with the hooks of web-prom, in its workers and its exporter, and for uWSGI.
    """
    if _current is not None:
        return _current.owner
    uwsgi: Any = sys.modules.get("uwsgi")
    return int(uwsgi.masterpid()) if _server is None and hasattr(uwsgi, "masterpid") else _server


def is_begun() -> bool:
    """Tell whether a server has begun a deployment in this process, or in the parent that forked it."""
    return _current is not None
