"""The value files of the workers of a web application, and changes of them between scrapes."""

from __future__ import annotations

import mmap
import random
from pathlib import Path
from struct import Struct

from prometheus_client.mmap_dict import mmap_key
from prometheus_client.utils import floatToGoString

from web_prom.config import DEFAULT_DURATION_BUCKETS
from web_prom.multiprocess.file_format import HEADER, FileName, pack_entry, value_offset

# For each route: a counter for each of three statuses, and a histogram with eleven buckets, count and sum.
STATUSES = ("200", "404", "500")
BOUNDS = (*DEFAULT_DURATION_BUCKETS, float("inf"))
SERIES_OF_A_ROUTE = len(STATUSES) + len(BOUNDS) + 2

_DOUBLE = Struct("=d")
_HELP = {
    "http_requests": "HTTP requests finished.",
    "http_request_duration_seconds": "Seconds from the call to the end of the response body.",
    "http_requests_in_progress": "HTTP requests being served now.",
}


class Workers:
    """The files of worker processes. All have the same label sets, each in another order.

    Args:
        directory: The directory of the files.
        processes: The number of processes.
        series: The approximate number of series of each process.
    """

    def __init__(self, directory: Path, processes: int, series: int) -> None:
        self.holders = {slot: 1000 + slot for slot in range(processes)}
        self.label_sets = 0
        self._random = random.Random(0)
        self._maps: list[mmap.mmap] = []
        # For each process and label set: the file and the offsets of the values. The first one is the sum.
        self._values: list[dict[str, tuple[mmap.mmap, list[int]]]] = []
        routes = [f"/api/v1/things{number}/<int:thing>" for number in range(series // SERIES_OF_A_ROUTE)]
        for slot in self.holders:
            self._random.shuffle(routes)
            self._write(directory, slot, routes)
        self.label_sets = len(self._values[0])

    def change(self, share: float) -> None:
        """Write to a share of the label sets, the same in every process."""
        chosen = self._random.sample(sorted(self._values[0]), round(self.label_sets * share))
        for values in self._values:
            for name in chosen:
                file, offsets = values[name]
                self._add(file, offsets[0], 0.25 if len(offsets) > 1 else 1.0)
                if len(offsets) > 1:
                    self._add(file, self._random.choice(offsets[1:]), 1.0)
                    self._add(file, offsets[0] + _DOUBLE.size, 1.0)  # the revision

    def close(self) -> None:
        """Close the files."""
        for each in self._maps:
            each.close()

    def _write(self, directory: Path, slot: int, routes: list[str]) -> None:
        counters: dict[str, list[bytes]] = {}
        histograms: dict[str, list[bytes]] = {}
        for route in routes:
            labels = {"method": "GET", "route": route}
            for status in STATUSES:
                name = "http_requests"
                counters[f"{route} {status}"] = [
                    self._entry(
                        name, f"{name}_total", {**labels, "status": status}, self._random.randrange(9999)
                    )
                ]
            histograms[route] = self._histogram(labels)
        gauge = "http_requests_in_progress"
        gauges = {gauge: [self._entry(gauge, gauge, {}, 1.0)]}
        found: dict[str, tuple[mmap.mmap, list[int]]] = {}
        self._file(directory / str(FileName("counter", "", f"s{slot}")), counters, found)
        self._file(directory / str(FileName("histogram", "", f"s{slot}")), histograms, found)
        self._file(directory / str(FileName("gauge", "livesum", f"s{slot}")), gauges, {})
        self._values.append(found)

    def _histogram(self, labels: dict[str, str]) -> list[bytes]:
        name = "http_request_duration_seconds"
        counts = [self._random.randrange(1000) for _ in BOUNDS]
        total = self._random.randrange(4000) / 4  # the sum is equal in any order of addition
        entries = [self._entry(name, f"{name}_sum", labels, total, sum(counts))]
        for bound, count in zip(BOUNDS, counts, strict=True):
            le = floatToGoString(bound)  # type: ignore[no-untyped-call]
            entries.append(self._entry(name, f"{name}_bucket", {**labels, "le": le}, count))
        return entries

    def _entry(
        self, family: str, sample: str, labels: dict[str, str], value: float, timestamp: float = 0.0
    ) -> bytes:
        key = mmap_key(family, sample, list(labels), list(labels.values()), _HELP[family])
        return pack_entry(key.encode(), value, timestamp)

    def _file(
        self, path: Path, entries: dict[str, list[bytes]], found: dict[str, tuple[mmap.mmap, list[int]]]
    ) -> None:
        body = b"".join(part for parts in entries.values() for part in parts)
        used = HEADER.size + len(body)
        room = max(65536, used // 4)
        path.write_bytes(HEADER.pack(used, self._random.randrange(1, 2**32)) + body + bytes(room))
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
        self._maps.append(mapped)
        position = HEADER.size
        for name, parts in entries.items():
            offsets = []
            for part in parts:
                offsets.append(position + value_offset(int.from_bytes(part[:4], "little")))
                position += len(part)
            found[name] = mapped, offsets

    @staticmethod
    def _add(file: mmap.mmap, offset: int, amount: float) -> None:
        _DOUBLE.pack_into(file, offset, _DOUBLE.unpack_from(file, offset)[0] + amount)
