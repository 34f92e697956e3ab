"""Scrapes of a URL, with limits: nothing hangs, and nothing fills the memory."""

from __future__ import annotations

import gzip
import http.client
import io
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from web_prom.advice.scrapes import Scrape

MAX_BYTES = 50 * 2**20
"""The longest text that is read."""


class UnreadableScrapeError(Exception):
    """A URL gave no metrics; the message says why and what to do."""


def fetch(url: str, headers: Mapping[str, str], timeout: float) -> Scrape:
    """Return what a URL answers to a scrape.

    Args:
        url: Of ``/metrics``, over http or https.
        headers: What to send beside the usual headers, for example ``Authorization``.
        timeout: Seconds for the whole of it.

    Raises:
        UnreadableScrapeError: It cannot be had, or is no metrics.
    """
    _check(url)
    request = urllib.request.Request(  # noqa: S310 - http and https alone, see above
        url, headers={"Accept": "text/plain; version=0.0.4", "Accept-Encoding": "gzip", **headers}
    )
    deadline = time.monotonic() + timeout
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            at = time.time()
            data = _read(response, deadline)
            if response.headers.get("Content-Encoding") == "gzip":
                data = _decompressed(data)
        return Scrape(data.decode("utf-8"), at)
    except urllib.error.HTTPError as error:
        hint = (
            "; give what it asks for with --header or --bearer-token-file" if error.code in (401, 403) else ""
        )
        raise UnreadableScrapeError(f"{url} answered {error.code} {error.reason}{hint}") from error
    except TimeoutError as error:
        raise UnreadableScrapeError(f"{url} did not answer within {timeout:g} s") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise UnreadableScrapeError(f"{url} did not answer within {timeout:g} s") from error
        raise UnreadableScrapeError(f"{url} cannot be reached: {error.reason}") from error
    except (http.client.HTTPException, OSError, EOFError) as error:
        raise UnreadableScrapeError(f"{url} broke off its answer: {error!r}") from error
    except ValueError as error:
        raise UnreadableScrapeError(f"{url} answered something else than metrics: {error}") from error


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a host that is no address
        right = False
    if not right:
        raise UnreadableScrapeError(f"{url!r} is no URL of metrics: write http://HOST:PORT/metrics")


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


def _too_long() -> UnreadableScrapeError:
    return UnreadableScrapeError(
        f"the answer is longer than {MAX_BYTES // 2**20} MiB; ask for less with ?name[]=, or look for "
        "labels with too many values"
    )
