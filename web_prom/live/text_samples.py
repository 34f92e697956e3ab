"""A reader of Prometheus' text format that is fast for scrapes of one service."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from operator import ne
from typing import Any, NamedTuple

# A scrape of a service with more is not shown. It would take seconds and hundreds of megabytes.
MAX_BYTES = 50_000_000

_ESCAPES = {"\\": "\\", '"': '"', "n": "\n"}


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
        self.series: list[Series] = []
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
        self._places: list[tuple[int, int]] = []
        self._values: list[float] = []
        self._not_finite: set[int] = set()
        self._families: dict[str, Family] = {}
        self._parsed: dict[bytes, tuple[str, dict[str, str]]] = {}

    def read(self, text: bytes) -> Scrape:
        """Return the families of a scrape, in the order of the text.

        Args:
            text: Prometheus' text format, version 0.0.4 or 1.0.0, in UTF-8.

        Raises:
            TextFormatError: The text has another format, or is larger than 50 MB.
        """
        if len(text) > MAX_BYTES:
            raise TextFormatError(f"the text has more than {MAX_BYTES // 1_000_000} MB")
        lines = text.split(b"\n")
        if not self._read_changes(lines):
            self._read_all(lines)
        return Scrape(self._families, self._values, frozenset(self._not_finite))

    def _read_changes(self, lines: list[bytes]) -> bool:
        """Read the lines that changed. Return whether the lines have the same series as those before."""
        if len(lines) != len(self._text):
            return False
        changed = [at for at, differs in enumerate(map(ne, lines, self._text)) if differs]
        values, not_finite = list(self._values), set(self._not_finite)
        try:
            for at in changed:
                line, (length, position) = lines[at], self._places[at]
                if not length or not line.startswith(self._text[at][:length]):
                    return False
                _set(values, not_finite, position, float(line[length:]))
        except ValueError:  # a timestamp, or no number
            return False
        self._text, self._values, self._not_finite = lines, values, not_finite
        return True

    def _read_all(self, lines: list[bytes]) -> None:
        families: dict[str, Family] = {}
        values: list[float] = []
        not_finite: set[int] = set()
        places: list[tuple[int, int]] = []
        known, self._parsed = self._parsed, {}
        current = Family("")
        self._text = []
        for line in lines:
            if line.startswith(b"#") or not line.strip():
                current = _read_comment(line, families, current)
                places.append((0, 0))
                continue
            end = line.rfind(b"}") + 1 or line.find(b" ")
            key = line[:end]
            try:
                parsed = known.get(key) or _parse_series(key)
                value = float(line[end:].split(None, 1)[0])
            except (ValueError, IndexError):
                raise _error(line) from None
            self._parsed[key] = parsed
            name, labels = parsed
            if not _belongs(name, current):
                current = families.setdefault(name, Family(name))
            current.series.append(Series(name, labels, len(values)))
            places.append((end + 1, len(values)))
            values.append(0.0)
            _set(values, not_finite, len(values) - 1, value)
        self._text, self._places, self._families = lines, places, families
        self._values, self._not_finite = values, not_finite


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
        bool(family.name)
        and name.startswith(family.name)
        and name[len(family.name) :] in ("_bucket", "_sum", "_count", "_total", "_created", "_info")
    )


def _read_comment(line: bytes, families: dict[str, Family], current: Family) -> Family:
    """Read a line that begins with ``#``; return the family that the next samples belong to."""
    words = line.decode("utf-8", "replace").split(" ", 3)
    if len(words) < 4 or words[1] not in ("TYPE", "HELP"):
        return current
    name = words[2].strip('"')
    family = families.setdefault(name, Family(name))
    if words[1] == "TYPE":
        family.type = words[3].strip()
    else:
        family.help = "".join(_unescape(words[3]))
    return family


def _parse_series(key: bytes) -> tuple[str, dict[str, str]]:
    """Return the name and the labels of a series.

    Raises:
        ValueError: The text is not a series.
    """
    text = key.decode("utf-8", "replace")
    name, brace, rest = text.partition("{")
    name = name.strip()
    labels: dict[str, str] = {}
    rest = rest.removesuffix("}") if brace else ""
    while rest.strip(", "):
        label, value, rest = _parse_label(rest)
        if label is None:  # a name that is quoted: {"http.requests", ...}
            name = value
        else:
            labels[label] = value
    if not name or any(sign.isspace() for sign in name):
        raise ValueError(text)
    return name, labels


def _parse_label(text: str) -> tuple[str | None, str, str]:
    """Return the first label's name and value, and the text after it.

    The name is None if there is only a value.

    Raises:
        ValueError: The text does not begin with a label.
    """
    text = text.lstrip(", ")
    label: str | None = None
    if not text.startswith('"'):
        label, equals, text = text.partition("=")
        text = text.lstrip()
        if not equals or not text.startswith('"'):
            raise ValueError(text)
    at = 1
    while text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    value, rest = "".join(_unescape(text[1:at])), text[at + 1 :]
    if label is None and rest.lstrip().startswith("="):  # a quoted label name
        name = value
        _none, value, rest = _parse_label(rest.lstrip()[1:])
        return name, value, rest
    return None if label is None else label.strip(), value, rest


def _unescape(text: str) -> Iterator[str]:
    escaped = False
    for sign in text:
        if escaped:
            yield _ESCAPES.get(sign, "\\" + sign)
            escaped = False
        elif sign == "\\":
            escaped = True
        else:
            yield sign
    if escaped:
        yield "\\"


def _error(line: bytes) -> TextFormatError:
    shown = line[:80].decode("utf-8", "replace")
    return TextFormatError(f"this line is not in Prometheus' text format: {shown!r}")
