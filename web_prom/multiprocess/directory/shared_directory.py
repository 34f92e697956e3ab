"""The directory that all workers share: created, locked while it is used, cleaned and removed."""

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
from web_prom.multiprocess.directory.label_files import is_label_file
from web_prom.multiprocess.directory.live_files import is_live_file
from web_prom.multiprocess.directory.liveness import has_writer
from web_prom.multiprocess.directory.private_directory import (
    PREFIX,
    is_private,
    parent_directories,
    remove_abandoned,
    try_flock,
)
from web_prom.multiprocess.directory.self_test import SELFTEST_PREFIX, check_filesystem
from web_prom.multiprocess.directory.shared_interval import is_interval_file
from web_prom.multiprocess.directory.slots import LOCK_NAME, slots_of
from web_prom.multiprocess.file_format import CORRUPT_SUFFIX, FileName
from web_prom.posix import fcntl

# Other servers have the exclusive lock only while they remove files.
_LOCK_TIMEOUT_SECONDS = 10.0
# Workers that were killed a moment ago may still hold their slots.
_EXIT_SECONDS = 1.0


class SharedDirectory:
    """The shared directory, marked as used while this process or any fork of it lives.

    The mark is a shared lock on the directory itself (``flock``), which a fork inherits. So the directory is
    marked while one worker of a killed master is left, and systemd does not remove it from ``/tmp``.
    Processes that no web-prom server started have no such lock, but they hold slots. A server that finds
    neither a lock nor a held slot removes the files of earlier processes; otherwise it joins. The lock file
    of the slots is never removed before the directory: with two lock files, two processes could hold slot
    0.

    A server process creates the object before it forks. Not safe between threads.

    Args:
        path: The directory; it is created if it is missing.

    Attributes:
        path: The absolute path of the directory.
        private: Whether web-prom created the directory; the last server that releases it removes it.

    Raises:
        DirectoryError: The directory cannot be created, written, locked or cleaned.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.private = is_private(self.path)
        self._descriptor: int | None = self._open_and_lock()
        try:
            check_filesystem(self.path)
        except DirectoryError:
            os.close(self._descriptor)
            raise
        dead_files.merge_dead_files(self.path)
        self._dead_pids: deque[int] = deque()
        self._is_removing = False

    @classmethod
    def create_private(cls) -> SharedDirectory:
        """Create a directory that only this user can read, and remove those that dead servers left.

        The directory is in the directory for temporary files. If that is not usable, it is in ``/dev/shm``.

        Raises:
            DirectoryError: It can be created in neither.
        """
        failures = []
        for parent in parent_directories():
            try:
                return cls._create_in(parent)
            except OSError as error:
                failures.append(str(error))
        raise DirectoryError(
            f"no private directory can be made for the workers to share ({'; '.join(failures)}); "
            f"set {DIR_VARIABLE} to a directory that they can write"
        )

    @classmethod
    def _create_in(cls, parent: Path) -> SharedDirectory:
        remove_abandoned(parent)
        # Until the directory is locked, its name hides it from servers that remove abandoned directories.
        hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
        try:
            created = cls(hidden)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        created.path = hidden.with_name(hidden.name.removeprefix("."))
        created.private = True
        hidden.rename(created.path)
        return created

    def chown(self, uid: int, gid: int) -> None:
        """Give the directory, and web-prom's files in it, to the workers' user; warn of other users.

        A directory that the user named keeps its owner if others can write to it, if another user owns it,
        or if it has files that are not web-prom's: then its owner is intended. Symbolic links are not
        followed.

        Raises:
            DirectoryError: This process may not change the owner.
        """
        if self._descriptor is None:
            return
        try:
            if (uid, gid) != (os.geteuid(), os.getegid()):
                self._chown(self._descriptor, uid, gid)
        except OSError as error:
            raise DirectoryError(
                f"the shared directory {str(self.path)!r} cannot be given to user {uid} and group {gid} "
                f"({error}); name one in {DIR_VARIABLE} that they can write"
            ) from error
        warn_of_other_users(self.path, uid)

    def release(self) -> None:
        """Stop using the directory; remove it if it is private and no other process uses it. Never raises.

        Workers that were killed a moment ago have a second to exit. If a program that a worker started
        still holds a slot, a server that creates a private directory later removes this one.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with contextlib.suppress(OSError):
            if self.private and not self._is_at_path(descriptor):
                # The directory was removed, and a worker created it again.
                replacement = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                os.close(descriptor)
                descriptor = replacement
            if self.private and try_flock(descriptor) and self._is_at_path(descriptor):
                self._remove()
        os.close(descriptor)
        slots_of(self.path).close()

    def remove_dead_worker(self, pid: int) -> None:
        """Remove the live gauges of a dead process.

        Never waits and uses no metric, so that a signal handler may call it. A call that interrupts another
        call leaves its process to the other. If another process holds the slot of the dead one by now, that
        process's files stay.

        Raises:
            OSError: A file cannot be removed, or the slots cannot be read.
        """
        self._dead_pids.append(pid)
        if self._is_removing:
            return
        self._is_removing = True
        try:
            while self._dead_pids:
                self._remove_live_gauges(self._dead_pids.popleft())
        finally:
            self._is_removing = False

    def _remove_live_gauges(self, pid: int) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        path = glob.escape(str(self.path))  # mark_process_dead() takes it as a pattern
        # A process that uses prometheus_client without web-prom names its files by its process id.
        mark_process_dead(pid, path)  # type: ignore[no-untyped-call]
        slots = slots_of(self.path)
        for slot in slots.find_by_pid(pid):
            with slots.reserve_free(slot) as is_free:
                if is_free:
                    mark_process_dead(f"s{slot}", path)  # type: ignore[no-untyped-call]

    def _open_and_lock(self) -> int:
        while True:
            ensure_writable(self.path)
            with self._directory_errors():
                descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if try_flock(descriptor):
                        self._clean(descriptor)
                    _share(descriptor)
                    if self._is_at_path(descriptor):
                        return descriptor
                except BaseException:
                    os.close(descriptor)
                    raise
            # The last server that used the directory has removed it meanwhile: create it again.
            os.close(descriptor)

    @contextlib.contextmanager
    def _directory_errors(self) -> Iterator[None]:
        try:
            yield
        except DirectoryError:
            raise
        except OSError as error:
            raise DirectoryError(
                f"{DIR_VARIABLE} is {str(self.path)!r}, which cannot be locked and cleaned of a former "
                f"deployment's files ({error}); name a directory of this server's own, on a local disk"
            ) from error

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except OSError:
            return False

    def _clean(self, descriptor: int) -> None:
        """Remove the files of earlier processes, if no other process holds a slot."""
        if not any(map(_is_removable, os.listdir(descriptor))):
            return
        with slots_of(self.path).exclusive() as is_exclusive:
            for name in filter(_is_removable, os.listdir(descriptor)) if is_exclusive else ():
                if self._has_writer_without_slot(name):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=descriptor)

    def _has_writer_without_slot(self, name: str) -> bool:
        """Return whether a process that uses prometheus_client without web-prom writes the file."""
        parsed = FileName.parse(name)
        with contextlib.suppress(OSError):
            return parsed is not None and parsed.pid is not None and has_writer(self.path / name) is True
        return False

    def _remove(self) -> None:
        """Remove the directory as soon as no process holds a slot, or give up."""
        deadline = time.monotonic() + _EXIT_SECONDS
        while True:
            with slots_of(self.path).exclusive() as is_exclusive:
                if is_exclusive:
                    return shutil.rmtree(self.path, ignore_errors=True)
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)

    def _chown(self, descriptor: int, uid: int, gid: int) -> None:
        names = os.listdir(descriptor)
        if self.private or _may_chown(os.fstat(descriptor), names):
            os.fchown(descriptor, uid, gid)
        for name in filter(_is_own_file, names):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                # Another user may have made the name a link to a file that is not web-prom's.
                if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid():
                    os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)


def _may_chown(status: os.stat_result, names: list[str]) -> bool:
    """Return whether only this user can write to a directory, and it has only web-prom's files."""
    only_this_user = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return only_this_user and all(map(_is_own_file, names))


def _is_removable(name: str) -> bool:
    """Return whether a file is web-prom's and not a lock file. Other files are the user's."""
    if is_label_file(name) or is_interval_file(name) or is_live_file(name):
        return True
    return name.startswith(SELFTEST_PREFIX) or FileName.parse(name.removesuffix(CORRUPT_SUFFIX)) is not None


def _is_own_file(name: str) -> bool:
    return name in {LOCK_NAME, dead_files.MERGE_LOCK_NAME} or _is_removable(name)


def _share(descriptor: int) -> None:
    """Lock the directory together with other servers.

    Raises:
        BlockingIOError: Another server has had the exclusive lock for too long.
    """
    deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)
