"""Files that dead processes named by process id: merged into one file for each type and gauge mode.

A process that uses prometheus_client without web-prom writes files that are named by its process id. When the
process is dead, its counts have to stay. Its files cannot stay, because their number would grow with each
process.

The *merged* file has a generation in its name: ``counter_dead8.db``. It is written once and never changed.
A merge holds a lock (``dead.lock``) and has three steps. At each step the names alone show a reader which
files count:

1. The file of a dead process becomes a *source* of the next generation: ``counter_1234.db`` is renamed to
   ``counter_dead9-1234.db``. It counts as before. A new process with the same id cannot open it.
2. The former merged file and the sources are added up in a new file, which is renamed to
``counter_dead9.db``.
   From then on the new file counts. Earlier generations, and the sources of this or earlier generations, do
   not.
3. The files that no longer count are removed.

A merge that is killed at any point is completed by the next merge. Nothing is counted twice or lost. Live
gauges of dead processes are removed. Files of processes that may be alive stay as they are, see
``liveness.py``.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from web_prom.multiprocess.directory.liveness import has_writer, is_writer_dead
from web_prom.multiprocess.directory.lockfile import LockFile, Span
from web_prom.multiprocess.file_entries import CorruptFileError, new_identity, read_entries
from web_prom.multiprocess.file_format import CORRUPT_SUFFIX, HEADER, TEMP_SUFFIX, FileName, pack_entry

logger = logging.getLogger("web_prom")

MERGE_LOCK_NAME = "dead.lock"
"""The name of the file that a merge locks. It does not exist before the first merge."""

_Entries = dict[bytes, tuple[float, float]]

# One for each process id: in a fork, a lock that a thread of the parent holds would never be released.
_locks: dict[int, threading.Lock] = {}
_logged: set[str] = set()


def superseded(names: Iterable[FileName]) -> set[FileName]:
    """Return the names whose files do not count any more, because a merged file includes them."""
    dead = [(name, name.generation) for name in names if name.owner.startswith("dead")]
    merged: dict[tuple[str, str], int] = {}
    for name, generation in dead:
        if generation is not None and not name.is_source:
            merged[_group(name)] = max(generation, merged.get(_group(name), 0))
    return {
        name
        for name, generation in dead
        if generation is not None and generation + (not name.is_source) <= merged.get(_group(name), 0)
    }


def merge_dead_files(directory: Path, names: Iterable[FileName] | None = None) -> bool:
    """Merge the files of dead processes and remove their live gauges; return whether files may have changed.

    Nothing happens if this process may not write, or while another process or thread merges. Never waits, and
    never raises. Safe to call from any thread, and after a fork.

    Args:
        directory: The shared directory.
        names: The names of its value files, if the caller has them already.
    """
    try:
        names = _list_names(directory) if names is None else list(names)
        if not (_has_work(directory, names) and os.access(directory, os.W_OK)):
            return False
        lock = _locks.setdefault(os.getpid(), threading.Lock())
        if not lock.acquire(blocking=False):
            return False
        try:
            return _merge_locked(directory)
        finally:
            lock.release()
    except (OSError, CorruptFileError) as error:
        kind = f"{type(error).__name__} {getattr(error, 'errno', '')}"
        if kind not in _logged:
            _logged.add(kind)
            logger.warning("files of dead processes in %s are not merged yet: %s", directory, error)
        return True


def _group(name: FileName) -> tuple[str, str]:
    """Return the metric type and gauge mode: the files of one group are merged into one file."""
    return name.metric_type, name.mode


def _list_names(directory: Path) -> list[FileName]:
    return [name for name in map(FileName.parse, os.listdir(directory)) if name is not None]


def _has_work(directory: Path, names: Iterable[FileName]) -> bool:
    return any(
        name.is_source or (name.pid is not None and is_writer_dead(directory / str(name), name.pid))
        for name in names
    ) or bool(superseded(names))


def _merge_locked(directory: Path) -> bool:
    """Merge all files of dead processes, if no other process merges."""
    file = LockFile(directory / MERGE_LOCK_NAME)
    try:
        if not (file.open(writing=True, create=True) and file.try_lock(Span(0, 1))):
            return False
        if os.geteuid() == 0:  # the workers' user has to be able to lock the file
            owner = directory.stat()
            os.chown(file.path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        groups: dict[tuple[str, str], list[FileName]] = defaultdict(list)
        for name in _list_names(directory):
            if name.slot is None:
                groups[_group(name)].append(name)
        for (metric_type, mode), names in groups.items():
            _Merge(directory, metric_type, mode, names).run()
        return True
    finally:
        file.close()


class _Merge:
    """One merge of the files of one type and mode. The caller holds the lock."""

    def __init__(self, directory: Path, metric_type: str, mode: str, names: list[FileName]) -> None:
        self._directory = directory
        self._metric_type = metric_type
        self._mode = mode
        past = superseded(names)
        self._past = [self._path(name) for name in past]
        self._names = [name for name in names if name not in past]
        merged = [name for name in self._names if name.generation is not None and not name.is_source]
        self._merged: Path | None = self._path(merged[0]) if merged else None
        self._next = 1 + max((name.generation or 0 for name in merged), default=0)

    def run(self) -> None:
        """Complete the previous merge, and make the next one if there are sources."""
        for path in self._past:
            path.unlink(missing_ok=True)
        if self._merged is not None and not _may_remove(self._merged, self._directory):
            return
        found = [(path, entries) for path in self._sources() if (entries := self._final(path)) is not None]
        if not found:
            return
        if not self._mode.startswith("live"):
            self._commit([entries for _, entries in found])
        for source, _ in found:
            source.unlink(missing_ok=True)
        if self._merged is not None:
            self._merged.unlink(missing_ok=True)

    def _sources(self) -> list[Path]:
        """Rename the files of dead processes to sources; return all sources, the oldest first."""
        found = []
        for name in self._names:
            path = self._path(name)
            if name.is_source:
                found.append(path)
            elif name.pid is not None and is_writer_dead(path, name.pid) and _is_readable(path):
                found.append(self._rename(path, self._next, name.pid))
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def _final(self, path: Path) -> _Entries | None:
        """Return the entries of a source; None if they may still change or cannot be read.

        Such a source is left to the next merge.
        """
        with contextlib.suppress(CorruptFileError):
            if has_writer(path) is False:  # no process opened it just before it was renamed
                return read_entries(path)
        name = FileName.parse(path.name)
        if name is not None and name.generation == self._next:
            self._rename(path, self._next + 1, int(name.pid_label))
        return None

    def _rename(self, path: Path, generation: int, pid: int) -> Path:
        owner = f"dead{generation}-{pid}"
        count = 0
        while True:
            target = self._path(
                FileName(self._metric_type, self._mode, f"{owner}-{count}" if count else owner)
            )
            if not target.exists():
                return path.rename(target)
            count += 1

    def _commit(self, sources: list[_Entries]) -> None:
        """Write the next merged file."""
        entries = merge_entries(self._metric_type, self._mode, [*self._read_merged(), *sources])
        target = self._path(FileName(self._metric_type, self._mode, f"dead{self._next}"))
        temporary = f"{target}{TEMP_SUFFIX}"
        try:
            _write(temporary, self._directory.stat(), entries)
            os.rename(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _read_merged(self) -> list[_Entries]:
        """Return the entries of the present merged file, if it exists and is not corrupt."""
        if self._merged is None:
            return []
        try:
            return [read_entries(self._merged)]
        except CorruptFileError as error:
            logger.warning("%s; it is renamed, and its values no longer count", error)
            self._merged.rename(f"{self._merged}{CORRUPT_SUFFIX}")
            self._merged = None
            return []

    def _path(self, name: FileName) -> Path:
        return self._directory / str(name)


def merge_entries(metric_type: str, mode: str, files: list[_Entries]) -> _Entries:
    """Return the entries of one file that replaces several files, which are ordered from old to new.

    A total is never less than the sum of its parts by rounding: Prometheus would take that for a restart.
    """
    found: dict[bytes, list[tuple[float, float]]] = defaultdict(list)
    for entries in files:
        for key, pair in entries.items():
            found[key].append(pair)
    if metric_type != "gauge":
        return {key: (_round_up_sum([value for value, _ in pairs]), 0.0) for key, pairs in found.items()}
    if mode == "sum":
        return {key: (_sum([value for value, _ in pairs]), 0.0) for key, pairs in found.items()}
    if mode == "mostrecent":
        return {key: max(reversed(pairs), key=lambda pair: pair[1]) for key, pairs in found.items()}
    choose = {"min": min, "max": max}.get(mode, lambda pairs: pairs[-1])
    return {key: choose(pairs) for key, pairs in found.items()}


def _sum(values: list[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)


def _round_up_sum(values: list[float]) -> float:
    total = _sum(values)
    return math.nextafter(total, math.inf) if _sum([*values, -total]) > 0 else total


def _is_readable(path: Path) -> bool:
    """Return whether a file can be parsed. A corrupt file stays, and each scrape counts it."""
    try:
        read_entries(path)
    except CorruptFileError:
        return False
    return True


def _may_remove(path: Path, directory: Path) -> bool:
    """Return whether this user may remove a file; in a directory with the sticky bit only its owner may."""
    found = directory.stat()
    return not found.st_mode & 0o1000 or os.geteuid() in (0, found.st_uid, path.stat().st_uid)


def _write(path: str, directory: os.stat_result, entries: _Entries) -> None:
    data = b"".join(pack_entry(key, *pair) for key, pair in entries.items())
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    mode = directory.st_mode & 0o666  # whoever may read the directory has to be able to read the file
    descriptor = os.open(path, flags, mode)
    with open(descriptor, "wb") as file:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, directory.st_uid if os.geteuid() == 0 else -1, directory.st_gid)
            os.fchmod(descriptor, mode)
        file.write(HEADER.pack(HEADER.size + len(data), new_identity()) + data)
