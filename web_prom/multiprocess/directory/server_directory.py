"""The shared directories of a server process, from its start to its end, across reloads and upgrades."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Protocol, cast

from web_prom.multiprocess.directory.environment import DIR_VARIABLE, configured_directory
from web_prom.multiprocess.directory.private_directory import is_private
from web_prom.multiprocess.directory.shared_directory import SharedDirectory


class ServerDirectories:
    """The shared directory of this server, and the earlier ones that older workers still use.

    There is one object in a server process, see :func:`open_server_directories`. Forked workers inherit it
    and never release it. Not safe between threads.

    Attributes:
        current: The directory of new workers.
        owner: The process id of the server.
    """

    def __init__(self) -> None:
        path = configured_directory()
        # A private directory that was removed has no other users. Another user could create its name again.
        is_removed = is_private(path) and not Path(path).is_dir()
        use_path = path and not is_removed
        self.current = SharedDirectory(path) if use_path else SharedDirectory.create_private()
        self._earlier: list[SharedDirectory] = []
        self.owner = os.getpid()
        self.export(os.environ)
        atexit.register(self.release)

    @property
    def directories(self) -> list[SharedDirectory]:
        """All directories that workers of this server may write to, the newest first."""
        return [self.current, *self._earlier]

    def set_owner(self) -> None:
        """Make this process the server, which releases the directories: a daemon forks after its start."""
        self.owner = os.getpid()

    def switch_to(self, path: str | Path, *, in_use: bool) -> None:
        """Use another directory for new workers.

        Args:
            path: The directory. Nothing happens if it is the current one.
            in_use: Whether living workers write to the current directory. It is then kept.

        Raises:
            DirectoryError: The directory cannot be used; nothing has changed.
        """
        if Path(path).absolute() == self.current.path:
            return
        joined = SharedDirectory(path)
        if in_use:
            self._earlier.insert(0, self.current)
        else:
            self.current.release()
        self.current = joined

    def export(self, environ: MutableMapping[str, str]) -> None:
        """Name the current directory in an environment, for workers or for the next server."""
        environ[DIR_VARIABLE] = str(self.current.path)

    def release(self) -> None:
        """Release all directories, if this process is the server. Never raises."""
        if os.getpid() == self.owner:
            for directory in self.directories:
                directory.release()


class _UWSGI(Protocol):
    """The module that uWSGI provides in its processes."""

    def masterpid(self) -> int:
        """Return the process id of the master; 0 if there is none."""


_directories: ServerDirectories | None = None
_server_pid: int | None = None


def open_server_directories() -> ServerDirectories:
    """Return the directories of this server process; the first call opens them and sets ``os.environ``.

    Raises:
        DirectoryError: The directory that the environment names cannot be used.
    """
    global _directories  # noqa: PLW0603 - a server is one process, and gunicorn reads a -c file again on HUP
    if _directories is None:
        _directories = ServerDirectories()
    return _directories


def is_server_managed() -> bool:
    """Return whether a server opened its directories in this process, or in the parent that forked it."""
    return _directories is not None


def set_server_pid(pid: int) -> None:
    """Set the server's process id, for an exporter, which is not a child of the server."""
    global _server_pid  # noqa: PLW0603 - an exporter has one server
    _server_pid = pid


def server_pid() -> int | None:
    """Return the process id of the server, which takes no requests itself; None if it is not known.

    It is known for gunicorn with the hooks of web-prom, in the workers and the exporter, and for uWSGI.
    """
    if _directories is not None:
        return _directories.owner
    uwsgi = cast("_UWSGI | None", sys.modules.get("uwsgi"))
    if _server_pid is None and uwsgi is not None and hasattr(uwsgi, "masterpid"):
        return int(uwsgi.masterpid())
    return _server_pid
