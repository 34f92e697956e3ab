"""The merged view of all workers that share a directory."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from threading import Lock
from time import monotonic
from types import MappingProxyType

from prometheus_client.metrics_core import Metric

from web_prom.multiprocess.directory.dead_files import merge_dead_files, superseded
from web_prom.multiprocess.directory.liveness import is_presumed_dead
from web_prom.multiprocess.directory.slots import slots_of
from web_prom.multiprocess.file_format import FileName
from web_prom.multiprocess.reading.file_group import Kind
from web_prom.multiprocess.reading.file_reader import ParsedFile
from web_prom.multiprocess.reading.keys import DamagedFileError
from web_prom.multiprocess.reading.merged_family import Family, LabelSet, mixed
from web_prom.multiprocess.reading.merged_text import Encoder, FamilyText, Format, part_of, write
from web_prom.posix import require_posix

logger = logging.getLogger("web_prom")

# More formats than Prometheus asks for; a content type holds a version that a client may invent.
_MOST_FORMATS = 16
# Files that vanish while others are read are moved or merged by another process just now, which takes
# milliseconds: then the directory is listed and read again.
_MOST_READINGS = 10

# On a full disk a process cannot make its files again. That has to be seen.
_MISSING_SECONDS = 30.0

_NO_UNITS: Mapping[str, str] = MappingProxyType({})

Held = Callable[[], Mapping[int, int]]
"""Tells which slots are held, and by which process."""


class _View:
    """What one process has parsed of a directory, and merged. Not thread-safe: used under its lock.

    Attributes:
        lock: Held by whoever uses the view.
        workers, files, damaged, ambiguous, series: As in :class:`WorkersCollector`.
    """

    def __init__(self, path: Path, *, tidy: bool, merging: bool) -> None:
        self.lock = Lock()
        self._path = path
        self._tidy = tidy
        self._merging = merging
        self.reset()

    def reset(self) -> None:
        """Forget everything, so that the next refresh begins from the files."""
        self.workers: dict[int, int] = {}
        self.files = 0
        self.damaged = 0
        self.ambiguous = 0
        self.series = 0
        self._names: dict[str, FileName | None] = {}
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._parsed: dict[str, ParsedFile] = {}
        self._told: set[tuple[str, str]] = set()
        self._warned: set[str] = set()
        self._missing: dict[str, float] = {}
        self._formats: dict[str, Format] = {}
        # What was read and is not merged yet: kept where a file could not be read, for the next time.
        self._changed: set[LabelSet] = set()

    def refresh(self, workers: Mapping[int, int]) -> None:
        """Read what has changed in the directory since the last time, and merge it.

        Raises:
            OSError: The directory or a file could not be read this time. What is merged would be less than
                there is, so that there is to be no scrape.
        """
        former, self.workers = self.workers, dict(workers)
        for _ in range(_MOST_READINGS):
            wanted = self._wanted()
            vanished = self._read_all(wanted, former)
            if not vanished:
                break
        for name in vanished:
            self._parsed.pop(name).drop(self._changed)
        self._told = {(name, reason) for name, reason in self._told if name in wanted}
        changed, self._changed = self._changed, set()
        self._merge(changed)
        self._look_for_two_definitions()

    def _read_all(self, wanted: Mapping[str, FileName], former: Mapping[int, int]) -> list[str]:
        """Read the files; return the names of those that have gone since the directory was listed."""
        self.files = self.damaged = 0
        changed = self._changed
        vanished: list[str] = []
        missing = self._parsed.keys() - wanted.keys()
        self._missing = {name: self._missing.get(name, monotonic()) for name in missing}
        for name in missing:
            if self._is_coming_back(name, former):
                self.damaged += 1
            else:
                self._parsed.pop(name).drop(changed)
        for (type_, mode), count in Counter(
            (told.metric_type, told.mode) for told in wanted.values()
        ).items():
            if (type_, mode) not in self._kinds:
                self._kinds[type_, mode] = Kind(type_, mode)
            self._kinds[type_, mode].reserve(count)
        for name, told in wanted.items():
            if name not in self._parsed:
                self._parsed[name] = ParsedFile(
                    self._path / name, told, self._kinds[told.metric_type, told.mode]
                )
        for name in wanted:
            try:
                self.files += self._read(name, self._parsed[name], changed)
            except FileNotFoundError:
                vanished.append(name)
        return vanished

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

    def texts(
        self, chosen: Format, names: Collection[str] | None, units: Mapping[str, str]
    ) -> list[FamilyText]:
        """Return the text of each merged family, or what is wanted of it."""
        found: list[FamilyText] = []
        self.series = 0
        for families in self.families():
            family = families[0]
            if names is not None and not any(not each.sample_names().isdisjoint(names) for each in families):
                continue
            if len(families) == 1 and family.plain and chosen.is_plain:
                lines, size = (family.texts, family.size) if names is None else part_of(family, names)
                if names is None or size:
                    found.append(FamilyText(chosen.header(family, units.get(family.name, "")), list(lines)))
                self.series += size
            else:
                metric = _metric(families)
                if metric is not None and names is not None:
                    metric.samples = [sample for sample in metric.samples if sample.name in names]
                if metric is not None and (names is None or metric.samples):
                    metric.unit = units.get(metric.name, "")
                    found.append(FamilyText(chosen.encode(metric), []))
                    self.series += len(metric.samples)
        return found

    def format(self, encode: Encoder, content_type: str) -> Format:
        """Return the format of a content type, which keeps what it has been asked for."""
        found = self._formats.get(content_type)
        if found is None:
            if len(self._formats) >= _MOST_FORMATS:
                self._formats.clear()
            found = self._formats[content_type] = Format(encode)
        return found

    def _is_coming_back(self, name: str, former: Mapping[int, int]) -> bool:
        """Return whether a file was removed under a living process, which makes it again within two seconds.

        Its values count on meanwhile: a total that is lower for a moment is a restart to Prometheus.
        """
        file = FileName.parse(name)
        if file is None or file.slot not in self.workers:
            return False
        holder = self.workers[file.slot]
        # All holders in other containers are process 0: one may have followed another.
        if holder == 0 and file.is_live:
            return False
        is_same = former.get(file.slot) == holder
        return is_same and monotonic() - self._missing[name] < _MISSING_SECONDS

    def _wanted(self) -> dict[str, FileName]:
        """Return the names of the files whose values count."""
        found = self._listed()
        if not all(told.owner.startswith("s") for told in found.values()):  # as those of slots do
            if self._merging:
                merge_dead_files(self._path, found.values())
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
        for _ in range(_MOST_READINGS):
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
        return is_presumed_dead(
            self._path / str(told), told.pid, same_namespace=0 not in self.workers.values()
        )

    def _read(self, name: str, file: ParsedFile, changed: set[LabelSet]) -> bool:
        """Read one file; return whether it has values. Only what is in a file may be left out of a scrape.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: It could not be read.
        """
        try:
            return file.refresh(changed)
        except DamagedFileError as error:
            self.damaged += 1
            if (name, str(error)) not in self._told:
                self._told.add((name, str(error)))
                logger.warning("%s in %s does not count, because %s", name, self._path, error)
            return False

    def _look_for_two_definitions(self) -> None:
        """Count the families whose samples have different labels, and log those that are new."""
        kinds = self._kinds.values()
        found = {
            f"{each.name} ({' and '.join(map(', '.join, each.definitions))})": each.name
            for kind in kinds
            for each in kind.families.values()
            if each.definitions
        }
        self.ambiguous = len(found)
        new = [text for text, name in found.items() if name not in self._warned]
        if new:
            self._warned.update(found.values())
            logger.warning(
                "%s has metrics whose samples have different labels: %s. Either two libraries measure under "
                "one name, and sums count twice: set PROM_NAMESPACE, which gives web-prom's metrics other "
                "names, or remove one of the two. Or the labels changed with a release: empty the directory "
                "while the server is stopped.",
                self._path,
                "; ".join(sorted(new)),
            )

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
        self._held = held or (lambda: slots_of(self._path).presumed_holders())
        self._tidy = held is None
        self._merging = held is None and merging
        self._views: dict[int, _View] = {}

    def collect(self) -> Iterable[Metric]:
        """Return the merged families; those of dead workers count on, except live gauges.

        Raises:
            OSError: Something could not be read this time, and there would be less than there is.
        """
        with self._refreshed() as view:
            return view.metrics()

    def render(self, encode: Encoder, content_type: str, names: Collection[str] | None = None) -> bytes:
        """Return the merged families as text, as ``encode`` would write what :meth:`collect` gives.

        Args:
            encode: The encoder of prometheus_client for the content type.
            content_type: By which what can be kept of the format is found again.
            names: The samples that are wanted; None for all.

        Returns:
            The text, without the ``# EOF`` at the end of OpenMetrics.

        Raises:
            OSError: As with :meth:`collect`.
        """
        families = self.render_families(encode, content_type, names)
        return b"".join([part for family in families for part in (family.heading, *family.samples)])

    def render_families(
        self,
        encode: Encoder,
        content_type: str,
        names: Collection[str] | None = None,
        units: Mapping[str, str] = _NO_UNITS,
    ) -> list[FamilyText]:
        """Return the text of each merged family, in the order of their names.

        Args:
            encode: The encoder of prometheus_client for the content type.
            content_type: The key under which values of the format are cached.
            names: The samples that are wanted; None for all.
            units: The units of families by name. The value files do not contain units.

        Raises:
            OSError: As with :meth:`collect`.
        """
        with self._refreshed() as view:
            return view.texts(view.format(encode, content_type), names, units)

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
        """The number of files that the last scrape left out because of what is in them."""
        return self._view().damaged

    @property
    def ambiguous(self) -> int:
        """The number of families in the last scrape whose samples have different labels."""
        return self._view().ambiguous

    @property
    def workers(self) -> dict[int, int]:
        """The slots that were held at the last scrape, each with its holder's process id."""
        return self._view().workers

    @contextlib.contextmanager
    def _refreshed(self) -> Iterator[_View]:
        """Read what is new; give the view, which nobody else uses meanwhile."""
        view = self._view()
        with view.lock:
            workers = self._held()
            try:
                view.refresh(workers)
            except OSError:
                raise
            except BaseException:
                # Stopped half-way (SystemExit, a killed greenlet, no memory).
                view.reset()
                raise
            yield view

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

    Raises:
        DirectoryError: This system is not POSIX.
    """
    require_posix(f"the directory is {str(path)!r}")
    key = os.path.abspath(path), merging
    return _collectors.get(key) or _collectors.setdefault(key, WorkersCollector(key[0], merging=merging))
