"""The directory that all workers share: made, kept while anybody uses it, cleaned of the dead."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import stat
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory import dead_files
from web_prom.multiprocess.directory.checks import ensure_writable, warn_of_other_users
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.directory.liveness import is_written
from web_prom.multiprocess.directory.private_directory import (
    PREFIX,
    is_private,
    places,
    remove_abandoned,
    try_lock,
)
from web_prom.multiprocess.directory.self_test import SELFTEST_PREFIX, check_filesystem
from web_prom.multiprocess.directory.slots import LOCK_NAME, slots_of
from web_prom.multiprocess.file_format import CORRUPT_SUFFIX, FileName
from web_prom.posix import fcntl

__all__ = ["SharedDirectory", "is_private"]

# Others hold the lock alone only for as long as it takes to remove files.
_PATIENCE_SECONDS = 10.0
# Workers that were killed just now are still dying.
_DYING_SECONDS = 1.0


class SharedDirectory:
    """The shared directory, held for as long as this process or any child of it lives.

    A shared lock on the directory itself tells that a server uses it. It is a ``flock``, which a fork
    inherits: the directory counts as used while one worker of a killed master is left, and systemd keeps
    its clean-up of ``/tmp`` away. A process that no server of ours has begun holds a slot if anything.
    Whoever finds neither removes what a dead deployment left there; a second server on the same directory
    joins. The file with the slots stays while the directory stays: two such files would be two slots 0.

    A server process makes it before it forks. Not meant to be shared between threads.

    Args:
        path: The directory; made if it is missing.

    Attributes:
        path: The directory, absolute.
        private: Whether web-prom made it under a name of its own; the last to leave removes it.

    Raises:
        DirectoryError: It cannot be made, written, locked, or cleaned of a dead deployment's files.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.private = is_private(self.path)
        self._lock: int | None = self._hold()
        try:
            check_filesystem(self.path)
        except DirectoryError:
            os.close(self._lock)
            raise
        dead_files.absorb(self.path)
        self._dead: deque[int] = deque()
        self._burying = False

    @classmethod
    def make_private(cls) -> SharedDirectory:
        """Make a directory that only this user can read, after removing those that dead servers left.

        It is in the directory for temporary files, or if that cannot be used, in ``/dev/shm``.

        Raises:
            DirectoryError: It can be made in neither.
        """
        failures = []
        for parent in places():
            try:
                return cls._make_in(parent)
            except OSError as error:
                failures.append(str(error))
        raise DirectoryError(
            f"no private directory can be made for the workers to share ({'; '.join(failures)}); "
            f"set {DIR_VARIABLE} to a directory that they can write"
        )

    @classmethod
    def _make_in(cls, parent: Path) -> SharedDirectory:
        remove_abandoned(parent)
        # Nobody may find the directory before it is locked, and remove it as abandoned.
        unfinished = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
        try:
            made = cls(unfinished)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        made.path = unfinished.with_name(unfinished.name.removeprefix("."))
        made.private = True
        unfinished.rename(made.path)
        return made

    def hand_to(self, uid: int, gid: int) -> None:
        """Give the directory, and our files in it, to the user that the workers run as; warn of other users.

        A directory that the user named and that others can write already, that another user owns, or that
        holds files of another kind is left as it is: somebody arranged it. Links are not followed.

        Raises:
            DirectoryError: This process may not give it away.
        """
        if self._lock is None:
            return
        try:
            if (uid, gid) != (os.geteuid(), os.getegid()):
                self._hand_to(self._lock, uid, gid)
        except OSError as error:
            raise DirectoryError(
                f"the shared directory {str(self.path)!r} cannot be given to user {uid} and group {gid} "
                f"({error}); name one in {DIR_VARIABLE} that they can write"
            ) from error
        warn_of_other_users(self.path, uid)

    def _hand_to(self, lock: int, uid: int, gid: int) -> None:
        names = os.listdir(lock)
        if self.private or self._is_plain(lock, names):
            os.fchown(lock, uid, gid)
        for name in filter(_is_ours, names):
            self._hand_file(name, uid, gid)

    def leave(self) -> None:
        """Stop using the directory; remove it if it is private and nobody else uses it. Never raises.

        Workers that were killed just now have a second to be dead. If a program that one of them started is
        left and holds a slot, whoever makes a private directory after its end removes this one.
        """
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with contextlib.suppress(OSError):
            if self.private and not self._is_at(lock):
                # Somebody removed it, and a worker made it again.
                again = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                os.close(lock)
                lock = again
            if self.private and try_lock(lock) and self._is_at(lock):
                self._remove()
        os.close(lock)
        slots_of(self.path).close()

    def bury(self, pid: int) -> None:
        """Remove what a dead process can no longer take back: its share of live gauges.

        Waits for nobody and touches no instrument, so that a signal's handler may call it; one that
        interrupts another leaves its dead to that. Whoever has taken the dead one's slot over keeps what is
        its own by now.

        Raises:
            OSError: Something cannot be removed, or the slots cannot be read.
        """
        self._dead.append(pid)
        if self._burying:
            return
        self._burying = True
        try:
            while self._dead:
                self._bury(self._dead.popleft())
        finally:
            self._burying = False

    def _bury(self, pid: int) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        path = glob.escape(str(self.path))  # it is taken for a pattern
        # Whoever writes with prometheus_client alone does so under its process id.
        mark_process_dead(pid, path)  # type: ignore[no-untyped-call]
        slots = slots_of(self.path)
        for slot in slots.find(pid):
            with slots.claim(slot) as free:
                if free:
                    mark_process_dead(f"s{slot}", path)  # type: ignore[no-untyped-call]

    def _hold(self) -> int:
        while True:
            ensure_writable(self.path)
            with self._explained():
                lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if try_lock(lock):
                        self._clean(lock)
                    _share(lock)
                    if self._is_at(lock):
                        return lock
                except BaseException:
                    os.close(lock)
                    raise
            # Whoever left last removed it in between: it has to be made again.
            os.close(lock)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DirectoryError:
            raise
        except OSError as error:
            raise DirectoryError(
                f"{DIR_VARIABLE} is {str(self.path)!r}, which cannot be locked and cleaned of a former "
                f"deployment's files ({error}); name a directory of this server's own, on a local disk"
            ) from error

    def _is_at(self, lock: int) -> bool:
        try:
            return os.path.samestat(os.fstat(lock), self.path.stat())
        except OSError:
            return False

    def _clean(self, lock: int) -> None:
        if not any(map(_holds_values, os.listdir(lock))):
            return
        with slots_of(self.path).alone() as alone:
            for name in filter(_holds_values, os.listdir(lock)) if alone else ():
                if self._is_written(name):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=lock)

    def _is_written(self, name: str) -> bool:
        """Tell whether a process writes a file that knows prometheus_client alone, and so holds no slot."""
        told = FileName.parse(name)
        with contextlib.suppress(OSError):
            return told is not None and told.pid is not None and is_written(self.path / name) is True
        return False

    def _remove(self) -> None:
        deadline = time.monotonic() + _DYING_SECONDS
        while True:
            with slots_of(self.path).alone() as alone:
                if alone:
                    return shutil.rmtree(self.path, ignore_errors=True)
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)

    def _is_plain(self, lock: int, names: list[str]) -> bool:
        found = os.fstat(lock)
        ours_alone = found.st_uid == os.geteuid() and not found.st_mode & 0o022
        return ours_alone and all(map(_is_ours, names))

    def _hand_file(self, name: str, uid: int, gid: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            entry = os.stat(name, dir_fd=self._lock, follow_symlinks=False)
            # A link could be another user's, to have a file given away that is none of ours.
            if stat.S_ISREG(entry.st_mode) and entry.st_nlink == 1 and entry.st_uid == os.geteuid():
                os.chown(name, uid, gid, dir_fd=self._lock, follow_symlinks=False)


def _holds_values(name: str) -> bool:
    # Whatever else is in a directory that the user named is not ours to remove.
    return name.startswith(SELFTEST_PREFIX) or FileName.parse(name.removesuffix(CORRUPT_SUFFIX)) is not None


def _is_ours(name: str) -> bool:
    return name in {LOCK_NAME, dead_files.LOCK_NAME} or _holds_values(name)


def _share(lock: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)
