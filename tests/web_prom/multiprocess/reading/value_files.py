"""Value files for tests, as web-prom and prometheus_client write them."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.utils import floatToGoString

from web_prom.multiprocess.file_format import HEADER, VALUE, FileName, pack_entry, value_offset
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.reading.merged_text import Encoder
from web_prom.multiprocess.writing import entry_removal

BOUNDS = (0.1, 1.0, float("inf"))


def render(
    collector: WorkersCollector, encoder: Encoder, content_type: str, names: Collection[str] | None = None
) -> bytes:
    """Return the text of all merged families."""
    families = collector.render_families(encoder, content_type, names)
    return b"".join([part for family in families for part in (family.heading, *family.samples)])


def key_of(family: str, sample: str, labels: Mapping[str, str], documentation: str = "Help.") -> str:
    """Return a key as web-prom and prometheus_client write it."""
    return mmap_key(family, sample, list(labels), list(labels.values()), documentation)


class Doubles:
    """The doubles of a file, by index."""

    def __init__(self, file: int) -> None:
        self._file = file

    def __getitem__(self, at: int) -> float:
        (value,) = struct.unpack("=d", os.pread(self._file, 8, at * 8))
        return float(value)

    def __setitem__(self, at: int, value: float) -> None:
        os.pwrite(self._file, struct.pack("=d", value), at * 8)


class WebPromFile:
    """A value file of web-prom, with an identity."""

    has_revisions = True

    def __init__(self, path: Path, identity: int) -> None:
        self.path = path
        self._identity = identity
        # The position of the value of each key, in doubles.
        self._positions: dict[bytes, int] = {}
        self._used = HEADER.size
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        os.ftruncate(self._file, 4096)
        self._put_header()
        self._name = FileName.parse(path.name) or FileName("", "", "")
        self._view = Doubles(self._file)

    def get(self, key: str) -> tuple[float, float]:
        """Return the value and the timestamp of a key. Add an entry if there is none."""
        return VALUE.unpack(os.pread(self._file, VALUE.size, self._place(key)))

    def set(self, key: str, value: float, timestamp: float = 0.0) -> None:
        """Write the value and the timestamp of a key."""
        os.pwrite(self._file, VALUE.pack(value, timestamp), self._place(key))

    def all_keys(self) -> list[str]:
        """Return the keys of all entries."""
        return [key.decode() for key in self._positions]

    def remove(self, keys: Iterable[str]) -> None:
        """Remove whole label sets."""
        entry_removal.remove(
            self._name, self._view, [(key.encode(), self._positions[key.encode()]) for key in keys]
        )

    def append(self, data: bytes) -> None:
        """Append bytes, and include them in the count of bytes in use."""
        os.pwrite(self._file, data, self._used)
        self._used += len(data)
        self._put_header()

    def claim(self, used: int) -> None:
        """Write a count of bytes in use to the header."""
        os.pwrite(self._file, HEADER.pack(used, self._identity), 0)

    @property
    def used(self) -> int:
        """The count of bytes in use."""
        return self._used

    def close(self) -> None:
        """Close the file. It stays in the directory."""
        os.close(self._file)

    def _place(self, key: str) -> int:
        encoded = key.encode()
        if encoded not in self._positions:
            self._positions[encoded] = (self._used + value_offset(len(encoded))) // 8
            self.append(pack_entry(encoded))
        entry_removal.restore(self._name, self._view, self._positions, encoded)
        return self._positions[encoded] * 8

    def _put_header(self) -> None:
        if os.fstat(self._file).st_size < self._used:
            os.ftruncate(self._file, self._used + 4096)
        os.pwrite(self._file, HEADER.pack(self._used, self._identity), 0)


class PrometheusFile:
    """A value file of prometheus_client, which has no identity and no revisions."""

    has_revisions = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._dict: Any = MmapedDict(str(path))  # type: ignore[no-untyped-call]

    def get(self, key: str) -> tuple[float, float]:
        """Return the value and the timestamp of a key. Add an entry if there is none."""
        return self._dict.read_value(key)  # type: ignore[no-any-return]

    def set(self, key: str, value: float, timestamp: float = 0.0) -> None:
        """Write the value and the timestamp of a key."""
        self._dict.write_value(key, value, timestamp)

    def close(self) -> None:
        """Close the file. It stays in the directory."""
        self._dict.close()


class Worker:
    """The files of one process in a directory.

    Args:
        directory: The directory.
        owner: ``s`` and the number of a slot for files of web-prom. Otherwise a process id.
    """

    identities = 0

    def __init__(self, directory: Path, owner: str) -> None:
        self.directory = directory
        self.owner = owner
        self.files: dict[tuple[str, str], WebPromFile | PrometheusFile] = {}

    def file(self, metric_type: str, mode: str = "") -> WebPromFile | PrometheusFile:
        """Return the file of a metric type and mode. Create it if there is none."""
        if (metric_type, mode) not in self.files:
            path = self.directory / str(FileName(metric_type, mode, self.owner))
            if self.owner.startswith("s"):
                Worker.identities += 1
                self.files[metric_type, mode] = WebPromFile(path, Worker.identities)
            else:
                self.files[metric_type, mode] = PrometheusFile(path)
        return self.files[metric_type, mode]

    def remove(self, metric_type: str, mode: str = "") -> None:
        """Close and delete a file."""
        file = self.files.pop((metric_type, mode))
        file.close()
        file.path.unlink()

    def close(self) -> None:
        """Close the files. They stay in the directory."""
        for file in self.files.values():
            file.close()
        self.files.clear()

    def inc(self, name: str, labels: Mapping[str, str] | None = None, amount: float = 1.0) -> None:
        """Increase a counter."""
        self._add(self.file("counter"), key_of(name, f"{name}_total", labels or {}), amount)

    def gauge(
        self,
        mode: str,
        name: str,
        value: float,
        labels: Mapping[str, str] | None = None,
        timestamp: float = 0.0,
    ) -> None:
        """Set a gauge."""
        self.file("gauge", mode).set(key_of(name, name, labels or {}), value, timestamp)

    def observe(
        self,
        name: str,
        value: float,
        labels: Mapping[str, str] | None = None,
        bounds: Sequence[float] = BOUNDS,
        documentation: str = "Help.",
    ) -> None:
        """Write an observation to a histogram: the sum, one bucket, and then the revision."""
        file, labels = self.file("histogram"), labels or {}
        sum_key = key_of(name, f"{name}_sum", labels, documentation)
        file.get(sum_key)
        for bound in bounds:
            file.get(self._bucket(name, labels, bound, documentation))
        found = next((bound for bound in bounds if value <= bound), None)
        self._add(file, sum_key, value)
        if found is not None:
            self._add(file, self._bucket(name, labels, found, documentation), 1.0)
            if file.has_revisions:
                before, revision = file.get(sum_key)
                file.set(sum_key, before, revision + 1)

    def summarize(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Write an observation to a summary."""
        self._add(self.file("summary"), key_of(name, f"{name}_count", labels or {}), 1.0)
        self._add(self.file("summary"), key_of(name, f"{name}_sum", labels or {}), value)

    def _bucket(self, name: str, labels: Mapping[str, str], bound: float, documentation: str) -> str:
        le = floatToGoString(bound)  # type: ignore[no-untyped-call]
        return key_of(name, f"{name}_bucket", {**labels, "le": le}, documentation)

    def _add(self, file: WebPromFile | PrometheusFile, key: str, amount: float) -> None:
        value, timestamp = file.get(key)
        file.set(key, value + amount, timestamp)


def web_prom_file(worker: Worker, metric_type: str, mode: str = "") -> WebPromFile:
    """Return a file of a worker of web-prom."""
    file = worker.file(metric_type, mode)
    assert isinstance(file, WebPromFile)
    return file
