"""The merged view of all workers that share a directory."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from threading import Lock

from prometheus_client.metrics_core import Metric

from web_prom.multiprocess.alive import seems_dead
from web_prom.multiprocess.dead_files import absorb, superseded
from web_prom.multiprocess.files import ParsedFile
from web_prom.multiprocess.keys import DamagedFileError
from web_prom.multiprocess.kinds import Kind
from web_prom.multiprocess.layout import FileName
from web_prom.multiprocess.merging import Family, LabelSet, mixed
from web_prom.multiprocess.rendering import Encoder, Format, write
from web_prom.multiprocess.slots import slots_of

logger = logging.getLogger("web_prom")

# More formats than Prometheus asks for; a content type holds a version that a client may invent.
_MOST_FORMATS = 16

# Files of dead processes are merged by another process just now, which takes milliseconds.
_MOST_TRIES = 10

Held = Callable[[], Mapping[int, int]]
"""Tells which slots are held, and by which process."""


class _View:
    """What one process has parsed of a directory, and merged. Not thread-safe: used under its lock.

    Attributes:
        lock: Held by whoever uses the view.
        workers, files, damaged, series: As in :class:`WorkersCollector`.
    """

    def __init__(self, path: Path, *, tidy: bool, merging: bool) -> None:
        self.lock = Lock()
        self.workers: dict[int, int] = {}
        self.files = 0
        self.damaged = 0
        self.series = 0
        self._path = path
        self._tidy = tidy
        self._merging = merging
        self._vanished = False
        self._names: dict[str, FileName | None] = {}
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._parsed: dict[str, ParsedFile] = {}
        self._told: set[tuple[str, str]] = set()
        self._formats: dict[str, Format] = {}

    def refresh(self, workers: Mapping[int, int]) -> None:
        """Read what has changed in the directory since the last time, and merge it."""
        self.workers = dict(workers)
        changed: set[LabelSet] = set()
        for _ in range(_MOST_TRIES):
            self._vanished = False
            self._read_all(changed)
            if not self._vanished:
                break
        self._merge(changed)

    def _read_all(self, changed: set[LabelSet]) -> None:
        self.damaged = 0
        wanted = self._wanted()
        for name in self._parsed.keys() - wanted.keys():
            self._parsed.pop(name).drop(changed)
        for (type_, mode), count in Counter((told.kind, told.mode) for told in wanted.values()).items():
            if (type_, mode) not in self._kinds:
                self._kinds[type_, mode] = Kind(type_, mode)
            self._kinds[type_, mode].reserve(count)
        for name, told in wanted.items():
            if name not in self._parsed:
                self._parsed[name] = ParsedFile(self._path / name, told, self._kinds[told.kind, told.mode])
        for name in wanted:
            if not self._read(name, self._parsed[name], changed):
                self._parsed.pop(name).drop(changed)
        self.files = len(self._parsed)
        self._told = {(name, reason) for name, reason in self._told if name in wanted}

    def families(self) -> Iterator[list[Family]]:
        """Give the families in the order of their names, those of one name together."""
        every = [family for kind in self._kinds.values() for family in kind.families.values() if family.helps]
        every.sort(key=attrgetter("name"))
        for _, group in groupby(every, key=attrgetter("name")):
            yield list(group)

    def metrics(self) -> list[Metric]:
        """Return the merged families as prometheus_client has them."""
        found = [metric for families in self.families() if (metric := _metric(families)) is not None]
        self.series = sum(len(metric.samples) for metric in found)
        return found

    def text(self, chosen: Format) -> bytes:
        """Return the merged families as text."""
        parts: list[bytes] = []
        self.series = 0
        for families in self.families():
            family = families[0]
            if len(families) == 1 and family.plain and chosen.is_plain:
                parts.append(chosen.header(family))
                parts += family.texts
                self.series += family.size
            else:
                metric = _metric(families)
                if metric is not None:
                    parts.append(chosen.encode(metric))
                    self.series += len(metric.samples)
        return b"".join(parts)

    def format(self, encode: Encoder, content_type: str) -> Format:
        """Return the format of a content type, which keeps what it has been asked for."""
        found = self._formats.get(content_type)
        if found is None:
            if len(self._formats) >= _MOST_FORMATS:
                self._formats.clear()
            found = self._formats[content_type] = Format(encode)
        return found

    def _wanted(self) -> dict[str, FileName]:
        """Return the names of the files whose values count."""
        found = self._listed()
        if not all(told.owner.startswith("s") for told in found.values()):  # as those of slots do
            if self._merging:
                absorb(self._path, found.values())
            found = self._listed_twice()
            for past in superseded(found.values()):
                del found[str(past)]
        return {name: told for name, told in found.items() if not (told.is_live and self._is_over(told))}

    def _listed(self) -> dict[str, FileName]:
        """Return the names of all value files."""
        try:
            present = os.listdir(self._path)
        except FileNotFoundError:
            present = []
        names = self._names
        self._names = {name: names[name] if name in names else FileName.parse(name) for name in present}
        return {name: told for name, told in self._names.items() if told is not None}

    def _listed_twice(self) -> dict[str, FileName]:
        """Return the same, where files may be renamed meanwhile: a long list is not made in one moment."""
        found = self._listed()
        for _ in range(_MOST_TRIES):
            before, found = found, self._listed()
            if before.keys() == found.keys():
                break
        return found

    def _is_over(self, told: FileName) -> bool:
        """Tell whether a live gauge's process is dead."""
        if told.slot is not None:
            return told.slot not in self.workers
        if told.pid is None or not self._tidy:
            return False
        return seems_dead(self._path / str(told), told.pid, alone=0 not in self.workers.values())

    def _read(self, name: str, file: ParsedFile, changed: set[LabelSet]) -> bool:
        """Read one file; whatever is wrong with it is its own problem, and not the scrape's."""
        try:
            return file.refresh(changed)
        except FileNotFoundError:
            # What a dead process left is in another file by now, and must not be missing from the scrape.
            told = self._names.get(name)
            self._vanished = self._vanished or (told is not None and told.slot is None)
            return False
        except (DamagedFileError, OSError) as error:
            self.damaged += 1
            if (name, str(error)) not in self._told:
                self._told.add((name, str(error)))
                logger.warning("%s in %s does not count, because %s", name, self._path, error)
            return False

    def _merge(self, changed: set[LabelSet]) -> None:
        if any(kind.lost for kind in self._kinds.values()):
            for kind in self._kinds.values():
                kind.forget()
            changed = {label_set for label_set in changed if label_set.is_held}
        for kind in self._kinds.values():
            for family in kind.families.values():
                if family.stale:
                    family.settle()
        write(changed)


def _metric(families: list[Family]) -> Metric | None:
    return families[0].metric() if len(families) == 1 else mixed(families)


class WorkersCollector:
    """Collects what all workers wrote to a directory, reading only what has changed since the last time.

    Safe to share between threads; a child process begins anew. Get it from :func:`collector_for`, so that
    what it has parsed is kept.

    Args:
        path: The directory.
        held: Tells which slots are held, and by which process; by default the locks in the directory, and
            live gauges that dead processes left under their process ids do not count then.
        merging: Merge the files that dead processes left under their process ids; else nothing is written.
    """

    def __init__(self, path: str | Path, held: Held | None = None, *, merging: bool = True) -> None:
        self._path = Path(path)
        self._held = held or (lambda: slots_of(self._path).held())
        self._tidy = held is None
        self._merging = held is None and merging
        self._views: dict[int, _View] = {}

    def collect(self) -> Iterable[Metric]:
        """Return the merged families; those of dead workers count on, except live gauges."""
        view = self._view()
        with view.lock:
            view.refresh(self._held())
            return view.metrics()

    def render(self, encode: Encoder, content_type: str) -> bytes:
        """Return the merged families as text, as ``encode`` would write what :meth:`collect` gives.

        Args:
            encode: The encoder of prometheus_client for the content type.
            content_type: By which what can be kept of the format is found again.

        Returns:
            The text, without the ``# EOF`` at the end of OpenMetrics.
        """
        view = self._view()
        with view.lock:
            view.refresh(self._held())
            return view.text(view.format(encode, content_type))

    @property
    def series(self) -> int:
        """The number of samples in the last scrape."""
        return self._view().series

    @property
    def files(self) -> int:
        """The number of files with values in the last scrape."""
        return self._view().files

    @property
    def damaged(self) -> int:
        """The number of files that the last scrape could not read."""
        return self._view().damaged

    @property
    def workers(self) -> dict[int, int]:
        """The slots that were held at the last scrape, each with its holder's process id."""
        return self._view().workers

    def _view(self) -> _View:
        # Inherited from a parent it may be locked, or half-way through a scrape.
        process = os.getpid()
        view = self._views.get(process)
        if view is None:
            view = self._views.setdefault(process, _View(self._path, tidy=self._tidy, merging=self._merging))
            for other in self._views.keys() - {process}:
                self._views.pop(other, None)
        return view


_collectors: dict[tuple[str, bool], WorkersCollector] = {}


def collector_for(path: str | Path, *, merging: bool = True) -> WorkersCollector:
    """Return this process's collector of a directory: one for all, because it keeps what it has parsed.

    Args:
        path: The directory.
        merging: Whether it merges the files that dead processes left under their process ids, as far as this
            process may; else it writes nothing.
    """
    key = os.path.abspath(path), merging
    return _collectors.get(key) or _collectors.setdefault(key, WorkersCollector(key[0], merging=merging))
