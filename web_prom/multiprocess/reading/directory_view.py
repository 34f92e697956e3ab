"""The parsed and merged contents of a shared directory in one process, refreshed at every scrape."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from threading import Lock
from time import monotonic

from prometheus_client.metrics_core import Metric

from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.file_format import FileName
from web_prom.multiprocess.reading.directory_listing import MAX_ATTEMPTS, DirectoryListing
from web_prom.multiprocess.reading.file_group import FileGroup
from web_prom.multiprocess.reading.file_reader import FileReader
from web_prom.multiprocess.reading.merged_family import MergedFamily, merge_conflicting_types
from web_prom.multiprocess.reading.merged_text import (
    Encoder,
    FamilyText,
    TextFormat,
    select_lines,
    update_texts,
)

logger = logging.getLogger("web_prom")

# More formats than Prometheus asks for. A content type contains a version, which a client can choose freely.
_MAX_FORMATS = 16
# On a full disk a worker cannot create its files again. After this time the scrape shows that values are
# missing.
_MISSING_SECONDS = 30.0


class DirectoryView:
    """The parsed and merged contents of a directory. Not thread-safe: callers hold the lock.

    Args:
        path: The directory.
        check_processes: As in :class:`DirectoryListing`.
        merge_dead: As in :class:`DirectoryListing`.

    Attributes:
        lock: The lock that callers hold.
        workers: The slots that were held at the last scrape, with the process ids of their holders.
        files: The number of files with values in the last scrape.
        corrupt_files: The number of files that the last scrape left out because they are corrupt.
        ambiguous_families: The number of families in the last scrape whose samples have different labels.
        series: The number of samples in the last scrape.
    """

    def __init__(self, path: Path, *, check_processes: bool, merge_dead: bool) -> None:
        self.lock = Lock()
        self._path = path
        self._listing = DirectoryListing(path, check_processes=check_processes, merge_dead=merge_dead)
        self.reset()

    def reset(self) -> None:
        """Discard everything. The next refresh reads all files again."""
        self.workers: dict[int, int] = {}
        self.files = 0
        self.corrupt_files = 0
        self.ambiguous_families = 0
        self.series = 0
        self._groups: dict[tuple[str, str], FileGroup] = {}
        self._readers: dict[str, FileReader] = {}
        self._logged_files: set[tuple[str, str]] = set()
        self._logged_families: set[str] = set()
        self._missing_since: dict[str, float] = {}
        self._formats: dict[str, TextFormat] = {}

    def refresh(self, workers: Mapping[int, int]) -> None:
        """Read what has changed in the directory since the last call, and merge it.

        Args:
            workers: The slots that are held, with the process ids of their holders.

        Raises:
            OSError: The directory or a file could not be read this time. A scrape would report less than
            there is.
                Values that were read already are merged by the next call.
        """
        previous, self.workers = self.workers, dict(workers)
        for _ in range(MAX_ATTEMPTS):
            files = self._listing.find(self.workers)
            vanished = self._read_all(files, previous)
            if not vanished:
                break
        for name in vanished:
            self._readers.pop(name).drop()
        self._logged_files = {(name, reason) for name, reason in self._logged_files if name in files}
        for group in self._groups.values():
            update_texts(group.take_changed())
        self._check_definitions()

    def metrics(self) -> list[Metric]:
        """Return the merged families as metrics of prometheus_client."""
        found = [metric for families in self._families() if (metric := _merge(families)) is not None]
        self.series = sum(len(metric.samples) for metric in found)
        return found

    def family_texts(
        self, text_format: TextFormat, names: Collection[str] | None, units: Mapping[str, str]
    ) -> list[FamilyText]:
        """Return the text of each merged family.

        Args:
            text_format: The format.
            names: The names of the samples to return. None for all.
            units: The units of families by name.
        """
        found: list[FamilyText] = []
        self.series = 0
        for families in self._families():
            family = families[0]
            if names is not None and not any(not each.sample_names().isdisjoint(names) for each in families):
                continue
            unit = units.get(family.name, "")
            if len(families) == 1 and family.has_plain_names and text_format.is_plain:
                lines, count = family.texts, family.sample_count
                if names is not None:
                    lines, count = select_lines(family, names)
                if names is None or count:
                    found.append(FamilyText(text_format.heading(family, unit), list(lines)))
                self.series += count
            else:
                metric = _merge(families)
                if metric is not None and names is not None:
                    metric.samples = [sample for sample in metric.samples if sample.name in names]
                if metric is not None and (names is None or metric.samples):
                    metric.unit = unit
                    found.append(FamilyText(text_format.encode(metric), []))
                    self.series += len(metric.samples)
        return found

    def text_format(self, encoder: Encoder, content_type: str) -> TextFormat:
        """Return the format of a content type, which caches its headings."""
        found = self._formats.get(content_type)
        if found is None:
            if len(self._formats) >= _MAX_FORMATS:
                self._formats.clear()
            found = self._formats[content_type] = TextFormat(encoder)
        return found

    def _families(self) -> Iterator[list[MergedFamily]]:
        """Return the families in the order of their names. Families of one name are in one list."""
        groups = self._groups.values()
        families = [family for group in groups for family in group.families.values() if family.helps]
        families.sort(key=attrgetter("name"))
        for _, same_name in groupby(families, key=attrgetter("name")):
            yield list(same_name)

    def _read_all(self, files: Mapping[str, FileName], previous: Mapping[int, int]) -> list[str]:
        """Read all files. Return the names of those that were removed after the directory was listed.

        Args:
            files: The files by name.
            previous: The workers at the scrape before.
        """
        self.files = self.corrupt_files = 0
        self._drop_missing(files, previous)
        for key, count in Counter((name.metric_type, name.mode) for name in files.values()).items():
            if key not in self._groups:
                self._groups[key] = FileGroup(*key)
            self._groups[key].reserve(count)
        for text, name in files.items():
            if text not in self._readers:
                group = self._groups[name.metric_type, name.mode]
                self._readers[text] = FileReader(self._path / text, name, group)
        vanished: list[str] = []
        for text in files:
            try:
                self.files += self._read(text)
            except FileNotFoundError:
                vanished.append(text)
        return vanished

    def _read(self, name: str) -> bool:
        """Read one file. Return whether it has values. Only corrupt files may be left out of a scrape.

        Raises:
            FileNotFoundError: The file does not exist any more.
            OSError: The file could not be read.
        """
        try:
            return self._readers[name].refresh()
        except CorruptFileError as error:
            self.corrupt_files += 1
            if (name, str(error)) not in self._logged_files:
                self._logged_files.add((name, str(error)))
                logger.warning("%s in %s does not count, because %s", name, self._path, error)
            return False

    def _drop_missing(self, files: Mapping[str, FileName], previous: Mapping[int, int]) -> None:
        """Drop the values of files that were removed, except of those that their worker is creating again."""
        missing = self._readers.keys() - files.keys()
        self._missing_since = {name: self._missing_since.get(name, monotonic()) for name in missing}
        for name in missing:
            if self._is_being_recreated(name, previous):
                self.corrupt_files += 1
            else:
                self._readers.pop(name).drop()

    def _is_being_recreated(self, name: str, previous: Mapping[int, int]) -> bool:
        """Return whether the worker that wrote a removed file is alive.

        The worker creates the file again within two seconds. Until then the last values count: Prometheus
        takes a total that is lower for a moment for a restart.
        """
        file = FileName.parse(name)
        if file is None or file.slot not in self.workers:
            return False
        holder = self.workers[file.slot]
        # The process id of every holder in another container is 0. So the slot may have a new holder.
        if holder == 0 and file.is_live:
            return False
        is_same = previous.get(file.slot) == holder
        return is_same and monotonic() - self._missing_since[name] < _MISSING_SECONDS

    def _check_definitions(self) -> None:
        """Count the families whose samples have different labels, and log the new ones."""
        found = {
            f"{family.name} ({' and '.join(map(', '.join, family.definitions))})": family.name
            for group in self._groups.values()
            for family in group.families.values()
            if family.definitions
        }
        self.ambiguous_families = len(found)
        new = [text for text, name in found.items() if name not in self._logged_families]
        if new:
            self._logged_families.update(found.values())
            logger.warning(
                "%s has metrics whose samples have different labels: %s. Either two libraries use the same "
                "metric name, and sums count twice: set PROM_NAMESPACE, which gives web-prom's metrics other "
                "names, or remove one of the libraries. Or a release changed the labels: empty the directory "
                "while the server is stopped.",
                self._path,
                "; ".join(sorted(new)),
            )


def _merge(families: list[MergedFamily]) -> Metric | None:
    return families[0].metric() if len(families) == 1 else merge_conflicting_types(families)
