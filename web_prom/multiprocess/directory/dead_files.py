"""Files that dead processes left under their process ids, merged into one file of each kind.

A process that imports prometheus_client and never asks web-prom for the switch writes files of its own
process id. When it is dead, its counts must stay, and its files must not: there would be more of them with
each process.

The *merged* file of a kind is named by a generation: ``counter_dead8.db``. It is written once and never
changed. The next merge has these steps, under a lock (``dead.lock``), and a reader can tell by the names
alone which files count:

1. The file of a dead process becomes a *source* of the next generation: ``counter_1234.db`` is renamed to
   ``counter_dead9-1234.db``. No new process of the same id can open it any more. It counts as before.
2. The merged file and its sources are added up, into a new file that is renamed to ``counter_dead9.db``.
From here on
   that one counts, and neither an earlier generation nor any source of this one or an earlier one.
3. The files that no longer count are removed.

Killed at any point, the next merge goes on from there, and nothing is counted twice or not at all. Live
gauges of dead processes are removed. Files of processes that may be alive are left alone, see ``alive.py``.
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

from web_prom.multiprocess.directory.liveness import is_dead, is_written
from web_prom.multiprocess.directory.lockfile import LockFile, Span
from web_prom.multiprocess.file_entries import CorruptFileError, new_identity, read_entries
from web_prom.multiprocess.file_format import CORRUPT_SUFFIX, HEADER, TEMP_SUFFIX, FileName, pack_entry

logger = logging.getLogger("web_prom")

LOCK_NAME = "dead.lock"
"""The name of the file that whoever merges locks. There is none where nothing was ever merged."""

_Entries = dict[bytes, tuple[float, float]]

# One for each process: a thread of the parent that held the parent's does not exist in a fork.
_locks: dict[int, threading.Lock] = {}
_reported: set[str] = set()


def superseded(names: Iterable[FileName]) -> set[FileName]:
    """Return those names whose files do not count any more, because they are in a merged file."""
    dead = [(name, name.generation) for name in names if name.owner.startswith("dead")]
    merged: dict[tuple[str, str], int] = {}
    for name, generation in dead:
        if generation is not None and not name.is_source:
            merged[name.metric_type, name.mode] = max(
                generation, merged.get((name.metric_type, name.mode), 0)
            )
    return {
        name
        for name, generation in dead
        if generation is not None
        and generation + (not name.is_source) <= merged.get((name.metric_type, name.mode), 0)
    }


def absorb(directory: Path, names: Iterable[FileName] | None = None) -> bool:
    """Merge the files of dead processes, and remove their live gauges; tell whether anything was changed.

    Nothing happens where this process may not write, and while another process or thread does it. Never
    waits, and never raises. Safe to call from any thread, and after a fork.

    Args:
        directory: The shared directory.
        names: What is there, if that is known.
    """
    try:
        names = _listed(directory) if names is None else list(names)
        if not (_has_work(directory, names) and os.access(directory, os.W_OK)):
            return False
        lock = _locks.setdefault(os.getpid(), threading.Lock())
        if not lock.acquire(blocking=False):
            return False
        try:
            return _absorb_alone(directory)
        finally:
            lock.release()
    except (OSError, CorruptFileError) as error:
        kind = f"{type(error).__name__} {getattr(error, 'errno', '')}"
        if kind not in _reported:
            _reported.add(kind)
            logger.warning("files of dead processes in %s stay for now: %s", directory, error)
        return True


def _listed(directory: Path) -> list[FileName]:
    return [name for name in map(FileName.parse, os.listdir(directory)) if name is not None]


def _has_work(directory: Path, names: Iterable[FileName]) -> bool:
    return any(
        name.is_source or (name.pid is not None and is_dead(directory / str(name), name.pid))
        for name in names
    ) or bool(superseded(names))


def _absorb_alone(directory: Path) -> bool:
    file = LockFile(directory / LOCK_NAME)
    try:
        if not (file.open(writing=True, making=True) and file.try_lock(Span(0, 1))):
            return False
        if os.geteuid() == 0:  # the workers' user has to be able to lock it
            owner = directory.stat()
            os.chown(file.path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        kinds: dict[tuple[str, str], list[FileName]] = defaultdict(list)
        for name in _listed(directory):
            if name.slot is None:
                kinds[name.metric_type, name.mode].append(name)
        for (kind, mode), names in kinds.items():
            _Merge(directory, kind, mode, names).run()
        return True
    finally:
        file.close()


class _Merge:
    """One merge of the files of a kind. The lock is held."""

    def __init__(self, directory: Path, kind: str, mode: str, names: list[FileName]) -> None:
        self._directory = directory
        self._kind = kind
        self._mode = mode
        past = superseded(names)
        self._past = [self._path(name) for name in past]
        self._names = [name for name in names if name not in past]
        merged = [name for name in self._names if name.generation is not None and not name.is_source]
        self._merged: Path | None = self._path(merged[0]) if merged else None
        self._next = 1 + max((name.generation or 0 for name in merged), default=0)

    def run(self) -> None:
        """Finish the last merge, and make the next one if there is anything to merge."""
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
        """Make the files of dead processes sources, and return all sources, the oldest first."""
        found = []
        for name in self._names:
            path = self._path(name)
            if name.is_source:
                found.append(path)
            elif name.pid is not None and is_dead(path, name.pid) and _is_whole(path):
                found.append(self._rename(path, self._next, name.pid))
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def _final(self, path: Path) -> _Entries | None:
        """Return what a source has for ever; None if it may still change or cannot be read: it waits."""
        with contextlib.suppress(CorruptFileError):
            if is_written(path) is False:  # nobody has opened it just before it was renamed
                return read_entries(path)
        name = FileName.parse(path.name)
        if name is not None and name.generation == self._next:
            self._rename(path, self._next + 1, int(name.pid_label))
        return None

    def _rename(self, path: Path, generation: int, pid: int) -> Path:
        owner = f"dead{generation}-{pid}"
        count = 0
        while True:
            target = self._path(FileName(self._kind, self._mode, f"{owner}-{count}" if count else owner))
            if not target.exists():
                return path.rename(target)
            count += 1

    def _commit(self, sources: list[_Entries]) -> None:
        former = self._former()
        merged = merge(self._kind, self._mode, [*former, *sources])
        target = self._path(FileName(self._kind, self._mode, f"dead{self._next}"))
        unfinished = f"{target}{TEMP_SUFFIX}"
        try:
            _write(unfinished, self._directory.stat(), merged)
            os.rename(unfinished, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise

    def _former(self) -> list[_Entries]:
        if self._merged is None:
            return []
        try:
            return [read_entries(self._merged)]
        except CorruptFileError as error:
            logger.warning("%s; it is put aside, and what it has does not count", error)
            self._merged.rename(f"{self._merged}{CORRUPT_SUFFIX}")
            self._merged = None
            return []

    def _path(self, name: FileName) -> Path:
        return self._directory / str(name)


def merge(kind: str, mode: str, files: list[_Entries]) -> _Entries:
    """Return the entries of one file that stands for several, the oldest first.

    A total is never less than the sum of the parts, by a rounding: Prometheus would take that for a restart.
    """
    found: dict[bytes, list[tuple[float, float]]] = defaultdict(list)
    for entries in files:
        for key, pair in entries.items():
            found[key].append(pair)
    if kind != "gauge":
        return {key: (_total([value for value, _ in pairs]), 0.0) for key, pairs in found.items()}
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


def _total(values: list[float]) -> float:
    total = _sum(values)
    return math.nextafter(total, math.inf) if _sum([*values, -total]) > 0 else total


def _is_whole(path: Path) -> bool:
    """Tell whether a file can be read; one that is damaged stays, and each scrape counts it."""
    try:
        read_entries(path)
    except CorruptFileError:
        return False
    return True


def _may_remove(path: Path, directory: Path) -> bool:
    """Tell whether this user may remove a file; in a directory with the sticky bit only its owner may."""
    found = directory.stat()
    return not found.st_mode & 0o1000 or os.geteuid() in (0, found.st_uid, path.stat().st_uid)


def _write(path: str, directory: os.stat_result, entries: _Entries) -> None:
    data = b"".join(pack_entry(key, *pair) for key, pair in entries.items())
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    mode = directory.st_mode & 0o666  # whoever may read the directory has to read this
    descriptor = os.open(path, flags, mode)
    with open(descriptor, "wb") as file:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, directory.st_uid if os.geteuid() == 0 else -1, directory.st_gid)
            os.fchmod(descriptor, mode)
        file.write(HEADER.pack(HEADER.size + len(data), new_identity()) + data)
