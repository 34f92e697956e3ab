"""Scrapes of a URL, with limits: nothing hangs, and nothing fills the memory."""

from __future__ import annotations

import gzip
import http.client
import io
import math
import re
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from threading import Lock, Thread
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from web_prom.config.headers import is_header
from web_prom.errors import SnapshotError
from web_prom.live.text_samples import MAX_BYTES

# For an answer that arrives as the timeout ends.
_GRACE_SECONDS = 0.5

_ASCII = "".join(map(chr, range(0x21, 0x7F)))

# The first sign of a line that is neither empty nor a comment.
_has_sample = re.compile(rb"^[ \t\r]*[^#\s]", re.MULTILINE).search


class _RedirectsOfOneHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the same host and port: the headers may have a password."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:  # noqa: PLR0917
        """Return the next request, or None: the redirect is then an error."""
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class RemoteScrape:
    """Scrapes one URL. Safe to share between threads.

    Args:
        url: Of ``/metrics``, over http or https.
        headers: What to send in addition to the usual headers, for example ``Authorization``.
        timeout: Seconds for the whole of one scrape.

    Raises:
        SnapshotError: The text is no URL of metrics, a header cannot be sent, or the timeout is not positive.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, timeout: float = 5.0) -> None:
        self.url = url
        self._headers = dict(headers or {})
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_RedirectsOfOneHost)
        self._running = Lock()
        _check(url)
        for name, value in self._headers.items():
            if not is_header(name, value):  # the value may be a secret
                raise SnapshotError(f"the header {name!r} cannot be sent: it must be one line of Latin-1")
        if not 0 < timeout < math.inf:
            raise SnapshotError(f"the timeout of a scrape must be more than 0 seconds, not {timeout:g}")

    def __call__(self) -> bytes:
        """Return what the URL answers.

        The scrape runs in a daemon thread. A name server or a service that sends its headers slowly can make
        it take longer than the timeout. It is then left alone, and a further scrape fails until it has ended.

        Raises:
            SnapshotError: It cannot be had, or it is no text of metrics. The message says why.
        """
        if not self._running.acquire(blocking=False):
            raise self._late()
        found: list[bytes | BaseException] = []
        thread = Thread(target=self._run, args=(found,), name="web-prom-remote", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._running.release()
            raise SnapshotError(f"{self.url} cannot be read now: {error}") from error
        thread.join(self._timeout + _GRACE_SECONDS)
        if not found:
            raise self._late()
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    def _run(self, found: list[bytes | BaseException]) -> None:
        try:
            found.append(self._read())
        except BaseException as error:
            found.append(error)
        finally:
            self._running.release()

    def _read(self) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - http and https alone, see _check
            _quoted(self.url),
            headers={"Accept": "text/plain; version=0.0.4", "Accept-Encoding": "gzip", **self._headers},
        )
        deadline = time.monotonic() + self._timeout
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                data = _read(response, deadline)
                if response.headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip"):
                    data = _decompressed(data)
                _check_type(response.headers.get_content_type(), self.url)
                if not _is_whole(data, response):
                    raise http.client.IncompleteRead(data)
                if not _has_sample(data):
                    raise SnapshotError(f"{self.url} answered without any metrics")
                return data
        except urllib.error.HTTPError as error:
            with error:
                raise SnapshotError(
                    f"{self.url} answered {error.code} {_clean(error.reason)}{_hint(error)}"
                ) from error
        except TimeoutError as error:
            raise self._late() from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise self._late() from error
            raise SnapshotError(f"{self.url} cannot be reached: {error.reason}") from error
        except (http.client.HTTPException, OSError, EOFError, ValueError, zlib.error) as error:
            raise SnapshotError(f"{self.url} broke off its answer: {error!r}") from error

    def _late(self) -> SnapshotError:
        return SnapshotError(f"{self.url} did not answer within {self._timeout:g} s")


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        right = parts.scheme in ("http", "https") and host and parts.port != 0
    except ValueError:  # a port that is no number, a host that is no address or no name
        right = False
    if not right or any(sign.isspace() or not sign.isprintable() for sign in url):
        raise SnapshotError(f"{url!r} is no URL of metrics: write http://HOST:PORT/metrics")
    if "@" in parts.netloc:
        raise SnapshotError(
            f"the URL of {parts.netloc.rpartition('@')[2]} has a user or a password; give them "
            "with a header or a bearer token, for example 'Authorization: Basic ...'"
        )


def _quoted(url: str) -> str:
    """Return a URL of which the path and the query are ASCII, as browsers send it."""
    parts = urlsplit(url)
    path, query = (quote(text, safe=_ASCII) for text in (parts.path, parts.query))
    return urlunsplit(parts._replace(path=path, query=query, fragment=""))


def _hint(error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403):
        return "; give what it asks for with a header or a bearer token"
    target = error.headers.get("Location") if error.headers else None
    if target and 300 <= error.code < 400:
        return f"; name the address to which it redirects: {_clean(target)}"
    return ""


def _clean(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in str(text)[:200])


def _check_type(content_type: str, url: str) -> None:
    if content_type not in ("text/plain", "application/openmetrics-text"):
        raise SnapshotError(f"{url} is no page of metrics: its type is {content_type}")


def _is_whole(text: bytes, response: http.client.HTTPResponse) -> bool:
    """Return whether a text has the end that its format requires, where nothing else says its length."""
    if response.headers.get_content_type() == "application/openmetrics-text":
        return text.rstrip().endswith(b"# EOF")
    has_length = response.length is not None or response.chunked or "Content-Encoding" in response.headers
    return has_length or not text or text.endswith(b"\n")


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    parts: list[bytes] = []
    size, expected = 0, response.length
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise _too_long()
        # Each wait has a time-out of its own, which a slow sender never reaches.
        if time.monotonic() > deadline:
            raise TimeoutError
    data = b"".join(parts)
    # read1() takes the end of a connection for the end of the answer.
    if expected is not None and size < expected:
        raise http.client.IncompleteRead(data, expected - size)
    return data


def _decompressed(data: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise _too_long()
    return text


def _too_long() -> SnapshotError:
    return SnapshotError(
        f"the answer is longer than {MAX_BYTES // 1_000_000} MB; look for labels with too many values"
    )
