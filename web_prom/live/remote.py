"""Scrapes of a URL, with limits: nothing hangs, and nothing fills the memory."""

from __future__ import annotations

import gzip
import http.client
import io
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from urllib.parse import urlsplit

from web_prom.errors import SnapshotError
from web_prom.live.text_samples import MAX_BYTES


class RemoteScrape:
    """Scrapes one URL. Safe to share between threads.

    Args:
        url: Of ``/metrics``, over http or https.
        headers: What to send in addition to the usual headers, for example ``Authorization``.
        timeout: Seconds for the whole of one scrape.

    Raises:
        SnapshotError: The text is no URL of metrics.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, timeout: float = 5.0) -> None:
        self.url = url
        self._headers = dict(headers or {})
        self._timeout = timeout
        _check(url)

    def __call__(self) -> bytes:
        """Return what the URL answers.

        Raises:
            SnapshotError: It cannot be had, or it is no text of metrics. The message says why.
        """
        request = urllib.request.Request(  # noqa: S310 - http and https alone, see _check
            self.url,
            headers={"Accept": "text/plain; version=0.0.4", "Accept-Encoding": "gzip", **self._headers},
        )
        deadline = time.monotonic() + self._timeout
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:  # noqa: S310
                data = _read(response, deadline)
                if response.headers.get("Content-Encoding") == "gzip":
                    data = _decompressed(data)
                _check_type(response.headers.get_content_type(), self.url)
                return data
        except urllib.error.HTTPError as error:
            hint = "; give what it asks for" if error.code in (401, 403) else ""
            raise SnapshotError(f"{self.url} answered {error.code} {error.reason}{hint}") from error
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
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a host that is no address
        right = False
    if not right or any(sign.isspace() or not sign.isprintable() for sign in url):
        raise SnapshotError(f"{url!r} is no URL of metrics: write http://HOST:PORT/metrics")


def _check_type(content_type: str, url: str) -> None:
    if content_type not in ("text/plain", "application/openmetrics-text"):
        raise SnapshotError(f"{url} is no page of metrics: its type is {content_type}")


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise _too_long()
        # Each wait has a time-out of its own, which a slow sender never reaches.
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


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
