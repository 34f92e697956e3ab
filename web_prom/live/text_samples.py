"""A reader of Prometheus' text format that is fast for scrapes of one service."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from operator import ne
from typing import Any, NamedTuple, overload

from web_prom.live.text_labels import parse_series, unescape

# A scrape of a service with more is not shown. It would take seconds and hundreds of megabytes.
MAX_BYTES = 50_000_000

# One call that splits a large text would keep all other threads waiting.
_SPLIT_BYTES = 250_000

_SUFFIXES = frozenset(
    ["_bucket", "_sum", "_count", "_gsum", "_gcount", "_total", "_created", "_info"],
)
_name_and_space = re.compile(rb"\s*\S+\s").match
_find_comment = re.compile(
    r"""#\s+(TYPE|HELP)\s+("[^"\\]*(?:\\.[^"\\]*)*"|[^\s"]\S*)(?:\s+|$)(.*)""", re.DOTALL
).fullmatch
_find_marks = re.compile(rb'\\.|"| # \{').finditer


class TextFormatError(ValueError):
    """The text is not in Prometheus' text format. The message names the line."""


class Series(NamedTuple):
    """What identifies a sample, and where its value is.

    Attributes:
        name: The name of the sample.
        labels: Its labels.
        at: The position of its value among the values of a scrape.
    """

    name: str
    labels: Mapping[str, str]
    at: int


class SeriesList(Sequence[Series]):
    """Series in columns. A :class:`Series` is made when it is read.

    The garbage collector does not visit names, positions, and labels that are strings. It would visit each
    :class:`Series` that exists: with 10,000 of them, a full collection stops all threads for 10 ms.

    Attributes:
        names: The name of each sample.
        labels: The labels of each sample.
        positions: The position of each value.
    """

    def __init__(self, every: Iterator[Series] | tuple[()] = ()) -> None:
        self.names: list[str] = []
        self.labels: list[Mapping[str, str]] = []
        self.positions: list[int] = []
        for series in every:
            self.add(*series)

    def add(self, name: str, labels: Mapping[str, str], at: int) -> None:
        """Add a series."""
        self.names.append(name)
        self.labels.append(labels)
        self.positions.append(at)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Series: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Series]: ...

    def __getitem__(self, index: int | slice) -> Series | Sequence[Series]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return Series(self.names[index], self.labels[index], self.positions[index])

    def __iter__(self) -> Iterator[Series]:
        return map(Series, self.names, self.labels, self.positions)


class Family:
    """A metric family, without its values.

    Attributes:
        name: The family's name, as its ``TYPE`` line has it.
        type: ``counter``, ``gauge``, ``histogram``, ``summary``, or another word of the text.
        help: The help text.
        series: Its series in the order of the text.
        derived: What the sections computed from the series alone, by name. Scrapes with the same series
            share it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = "unknown"
        self.help = ""
        self.series = SeriesList()
        self.derived: dict[str, Any] = {}


class Scrape(NamedTuple):
    """The families and the values of one scrape. Scrapes with the same series share the families.

    Attributes:
        families: The families by name.
        values: The values by the positions of the series. NaN and infinities are 0.
        not_finite: The positions of values that are NaN or an infinity.
    """

    families: Mapping[str, Family]
    values: Sequence[float]
    not_finite: frozenset[int] = frozenset()


class TextReader:
    """Reads scrapes of one service.

    If a scrape has the same series as the one before, only the lines that changed are read. If it has other
    series, the labels of known series are not parsed again. One thread at a time may use it.
    """

    def __init__(self) -> None:
        self._text: list[bytes] = []
        # For each line: the length of the text before the value, and the position of the value. A line
        # without a value has the length 0.
        self._lengths: list[int] = []
        self._positions: list[int] = []
        # By position.
        self._series = SeriesList()
        self._values: list[float] = []
        self._not_finite: set[int] = set()
        self._families: dict[str, Family] = {}

    def read(self, text: bytes) -> Scrape:
        """Return the families of a scrape, in the order of the text.

        Args:
            text: Prometheus' text format, version 0.0.4 or 1.0.0, in UTF-8.

        Raises:
            TextFormatError: The text has another format, or is larger than 50 MB.
        """
        if len(text) > MAX_BYTES:
            raise TextFormatError(f"the text has more than {MAX_BYTES // 1_000_000} MB")
        lines = _split(text)
        if not self._read_changes(lines):
            self._read_all(lines)
        return Scrape(self._families, self._values, frozenset(self._not_finite))

    def _read_changes(self, lines: list[bytes]) -> bool:
        """Read the lines that changed. Return whether the lines have the same series as those before."""
        if len(lines) != len(self._text):
            return False
        changed = list(compress(range(len(lines)), map(ne, lines, self._text)))
        values, not_finite = list(self._values), set(self._not_finite)
        try:
            for at in changed:
                line, length = lines[at], self._lengths[at]
                if not length or not line.startswith(self._text[at][:length]):
                    return False
                _set(values, not_finite, self._positions[at], float(line[length:]))
        except ValueError:  # a timestamp, or no number
            return False
        self._text, self._values, self._not_finite = lines, values, not_finite
        return True

    def _read_all(self, lines: list[bytes]) -> None:
        known = {
            line[:length]: position
            for line, length, position in zip(self._text, self._lengths, self._positions, strict=True)
            if length
        }
        former = self._series
        every, families = SeriesList(), dict[str, Family]()
        values: list[float] = []
        not_finite: set[int] = set()
        lengths: list[int] = []
        positions: list[int] = []
        strings: dict[str, str] = {}
        current = Family("")
        for line in lines:
            positions.append(len(values))
            if line.lstrip()[:1] in (b"#", b""):
                current = _read_comment(line, families, current)
                lengths.append(0)
                continue
            sample = _without_exemplar(line)
            end = _length_before_value(sample)
            at = known.get(sample[:end])
            labels: Mapping[str, str]
            try:
                if at is None:
                    name, labels = parse_series(sample[:end], strings)
                else:
                    name, labels = former.names[at], former.labels[at]
                value = float(sample[end:].split(None, 1)[0])
            except (ValueError, IndexError):
                raise _error(line) from None
            if not _belongs(name, current):
                current = families.setdefault(name, Family(name))
            current.series.add(name, labels, len(values))
            every.add(name, labels, len(values))
            lengths.append(end)
            values.append(0.0)
            _set(values, not_finite, len(values) - 1, value)
        self._text, self._lengths, self._positions = lines, lengths, positions
        self._series, self._families = every, families
        self._values, self._not_finite = values, not_finite


def _length_before_value(sample: bytes) -> int:
    """Return the length of the text before a value; 0 if there is no value.

    A space before the value may be missing after labels, but not after a name.
    """
    length = sample.rfind(b"}") + 1
    if not length and (found := _name_and_space(sample)):
        length = found.end()
    return length


def _without_exemplar(line: bytes) -> bytes:
    """Return a line of OpenMetrics without the exemplar after the value."""
    if b" # {" not in line:
        return line
    in_value = False
    for found in _find_marks(line):  # characters that are escaped, quotes, and what begins an exemplar
        if found[0] == b'"':
            in_value = not in_value
        elif found[0] == b" # {" and not in_value:
            return line[: found.start()]
    return line


def _split(text: bytes) -> list[bytes]:
    """Return the lines of a text, without their ends."""
    lines: list[bytes] = []
    start = 0
    while (end := text.find(b"\n", start + _SPLIT_BYTES)) >= 0:
        lines += text[start:end].split(b"\n")
        start = end + 1
    lines += text[start:].split(b"\n")
    return lines


def _set(values: list[float], not_finite: set[int], at: int, value: float) -> None:
    if math.isfinite(value):
        values[at] = value
        not_finite.discard(at)
    else:
        values[at] = 0.0
        not_finite.add(at)


def _belongs(name: str, family: Family) -> bool:
    # Most samples have the name of their family, with a suffix for some types.
    return name == family.name or (
        bool(family.name) and name.startswith(family.name) and name[len(family.name) :] in _SUFFIXES
    )


def _read_comment(line: bytes, families: dict[str, Family], current: Family) -> Family:
    """Read a line that is empty or a comment; return the family that the next samples belong to."""
    found = _find_comment(line.decode("utf-8", "replace").strip())
    if found is None or (found[1] == "TYPE" and not found[3]):
        return current
    name = unescape(found[2][1:-1]) if found[2].startswith('"') else found[2]
    family = families.setdefault(name, Family(name))
    if found[1] == "TYPE":
        family.type = found[3]
    else:
        family.help = unescape(found[3])
    return family


def _error(line: bytes) -> TextFormatError:
    shown = line[:80].decode("utf-8", "replace")
    return TextFormatError(f"this line is not in Prometheus' text format: {shown!r}")
