"""A parser for request heads of HTTP/1.1 that rejects every ambiguous head.

A proxy in front of this server must not interpret a request in another way. Input for which
https://www.rfc-editor.org/rfc/rfc9112 allows several interpretations is an error here: a line that ends
without CR, a folded line, two equal lengths.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

MAX_BYTES = 32_768
"""The largest size of a head in bytes. The heads of scrapers are smaller than 1 kB."""
_MAX_FIELDS = 100

_END = b"\r\n\r\n"
# All bytes except control characters. HTAB, CR and LF are allowed.
_ALLOWED = bytes({*range(0x20, 0x7F), *range(0x80, 0x100), *b"\t\r\n"})
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_NAME = re.compile(_TOKEN)
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) (HTTP/1\.[01])" % _TOKEN)
_HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%%-]%b)(?::[0-9]*)?"
_HOST_FIELD = re.compile(_HOST % b"*")
_PATH = rb"(/[^?#]*)(?:\?([^#]*))?"
_ORIGIN_FORM = re.compile(_PATH)
_ABSOLUTE_FORM = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://%b(/[^?#]*)?(?:\?([^#]*))?" % (_HOST % b"+"))
_FRAMING = (b"host", b"content-length", b"transfer-encoding", b"connection")
_LENGTH = re.compile(rb"[0-9]{1,20}")


class HeadError(ValueError):
    """A head is not allowed. The connection must be closed: the start of the next request is unknown.

    Attributes:
        status: The status line of the answer, without the version.
    """

    def __init__(self, status: str = "400 Bad Request") -> None:
        super().__init__(status)
        self.status = status


class Head(NamedTuple):
    """The head of a request.

    Attributes:
        method: The method as sent. Methods are case-sensitive.
        path: The percent-decoded path. As in WSGI, each byte is one character.
        query: The query string as sent.
        version: ``HTTP/1.1`` or ``HTTP/1.0``.
        fields: The names and values of the headers, in the order sent.
        has_body: Whether a body follows.
        keeps_alive: Whether the client allows the connection to stay open.
    """

    method: str
    path: str
    query: str
    version: str
    fields: list[tuple[str, str]]
    has_body: bool
    keeps_alive: bool


def end_of_head(data: bytes, begin: int = 0) -> int:
    """Return the position after the head in the received bytes; -1 if the head is not complete.

    Args:
        data: The received bytes.
        begin: How many of these bytes an earlier call has checked.

    Raises:
        HeadError: No further bytes can make this a head.
    """
    end = data.find(_END, max(0, begin - len(_END) + 1)) + len(_END)
    complete = end >= len(_END)
    if end > MAX_BYTES or (not complete and len(data) > MAX_BYTES):
        raise HeadError("431 Request Header Fields Too Large")
    begin -= data[begin - 1 : begin] == b"\r"
    arrived = data[begin:end] if complete else data[begin:].removesuffix(b"\r")
    if arrived.translate(None, _ALLOWED) or data.startswith(b"\r\n"):
        raise HeadError
    if not arrived.count(b"\r") == arrived.count(b"\n") == arrived.count(b"\r\n"):
        raise HeadError
    return end if complete else -1


def read_head(data: bytes) -> Head:
    """Parse a head that is complete according to :func:`end_of_head`, including its empty line.

    Raises:
        HeadError: The head is invalid or ambiguous.
    """
    first, *lines = data[: -len(_END)].split(b"\r\n")
    if len(lines) > _MAX_FIELDS:
        raise HeadError("431 Request Header Fields Too Large")
    found = _REQUEST_LINE.fullmatch(first)
    if found is None:
        raise HeadError
    method, target, version = found.groups()
    fields = [_field(line) for line in lines]
    path, query = _target(method, target)
    framing: dict[bytes, list[bytes]] = {name: [] for name in _FRAMING}
    for name, value in fields:
        if name.lower() in framing:
            framing[name.lower()].append(value)
    _check_host(framing[b"host"], version)
    return Head(
        method.decode("ascii"),
        path,
        query,
        version.decode("ascii"),
        [(name.decode("ascii"), value.decode("latin-1")) for name, value in fields],
        _has_body(framing[b"content-length"], framing[b"transfer-encoding"], version),
        _keeps_alive(b",".join(framing[b"connection"]), version),
    )


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    # A space before the colon is invalid. A space at the beginning would continue the previous line.
    if not colon or not _NAME.fullmatch(name):
        raise HeadError
    return name, value.strip(b" \t")


def _target(method: bytes, target: bytes) -> tuple[str, str]:
    found = _ORIGIN_FORM.fullmatch(target) or _ABSOLUTE_FORM.fullmatch(target)
    if found is None:
        if target == b"*" and method == b"OPTIONS":
            return "*", ""
        raise HeadError
    path, query = found[1] or b"/", found[2] or b""
    return unquote_to_bytes(path).decode("latin-1"), query.decode("ascii")


def _check_host(hosts: list[bytes], version: bytes) -> None:
    if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
        raise HeadError
    if hosts and not _HOST_FIELD.fullmatch(hosts[0]):
        raise HeadError


def _has_body(lengths: list[bytes], encodings: list[bytes], version: bytes) -> bool:
    if len(lengths) + len(encodings) > 1:
        raise HeadError
    if encodings:
        if version == b"HTTP/1.0" or encodings[0].lower() != b"chunked":
            raise HeadError
        return True
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise HeadError
    return bool(lengths) and lengths[0].strip(b"0") != b""


def _keeps_alive(connection: bytes, version: bytes) -> bool:
    options = {option.strip(b" \t").lower() for option in connection.split(b",")}
    return b"close" not in options and (version == b"HTTP/1.1" or b"keep-alive" in options)
