"""The directory that all workers share: made, kept while anybody uses it, cleaned of the dead."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from web_prom.errors import DirectoryError

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the shared directory; prometheus_client's own."""

LOCK_NAME = "web_prom.lock"
_PRIVATE_PREFIX = "web_prom-"
_UNFINISHED_PREFIX = ".web_prom-"


def make_usable(path: str | Path) -> Path:
    """Make the directory if it is missing and prove that this process can write to it.

    Raises:
        DirectoryError: It cannot be made or written; the message says why and what to do.
    """
    path = Path(path)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise DirectoryError(
            f"{VARIABLE} is {str(path)!r}, which cannot be written by user {os.geteuid()} ({error}); "
            "name a directory that all workers can write, or leave the variable unset under gunicorn "
            "with web_prom.gunicorn, which makes one"
        ) from error


class SharedDirectory:
    """The shared directory, held for as long as this process or any child of it lives.

    A lock on a file inside tells whether anybody uses the directory. It is a ``flock``, which a fork
    inherits: the directory counts as used while one worker of a killed master is left. Whoever finds it
    unused removes what a dead deployment left there; a second server on the same directory joins.

    One server process makes one object, before it forks. Not meant to be shared between threads.

    Attributes:
        path: The directory.
        private: Whether web-prom made it under a name of its own, and removes it in the end.
    """

    def __init__(self, path: str | Path, *, private: bool = False) -> None:
        self.path = make_usable(path)
        self.private = private
        self._lock = self._open()

    @classmethod
    def make_private(cls) -> SharedDirectory:
        """Make a directory that only this user can read, after removing those that dead masters left."""
        parent = Path(tempfile.gettempdir())
        _remove_abandoned(parent)
        # Nobody may find the directory before it is locked, and remove it as abandoned.
        unfinished = tempfile.mkdtemp(prefix=_UNFINISHED_PREFIX, dir=parent)
        made = cls(unfinished, private=True)
        made.path = Path(unfinished).with_name(Path(unfinished).name.removeprefix("."))
        os.rename(unfinished, made.path)
        return made

    def hand_to(self, uid: int, gid: int) -> None:
        """Give the directory and what is in it to the user that the workers run as.

        Raises:
            DirectoryError: This process may not do that.
        """
        if (uid, gid) == (os.geteuid(), os.getegid()):
            return
        try:
            for entry in [self.path, *self.path.iterdir()]:
                os.chown(entry, uid, gid)
        except OSError as error:
            raise DirectoryError(
                f"the shared directory {str(self.path)!r} cannot be given to user {uid} and group {gid} "
                f"({error}); name one in {VARIABLE} that they can write"
            ) from error

    def leave(self) -> None:
        """Stop using the directory; remove it if it is private and nobody else uses it."""
        unused = _try_lock(self._lock)
        if unused and self.private:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def _open(self) -> int:
        lock = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _try_lock(lock):
            for entry in self.path.glob("*.db"):
                with contextlib.suppress(FileNotFoundError):
                    entry.unlink()
        fcntl.flock(lock, fcntl.LOCK_SH)
        return lock


def is_private(path: str | Path) -> bool:
    """Tell whether a path is one that :meth:`SharedDirectory.make_private` gives."""
    path = Path(path)
    return path.parent == Path(tempfile.gettempdir()) and path.name.startswith(_PRIVATE_PREFIX)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{_PRIVATE_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid != os.geteuid():
                continue
            lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
            try:
                if _try_lock(lock):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
