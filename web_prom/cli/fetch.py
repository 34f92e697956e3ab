"""Scrapes of a URL for a command, with limits: nothing hangs, and nothing fills the memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from web_prom.errors import SnapshotError
from web_prom.live.remote import RemoteScrape
from web_prom.live.snapshot import SnapshotReader
from web_prom.live.text_samples import Scrape, TextFormatError


class UnreadableScrapeError(Exception):
    """A URL gave no metrics; the message says why and what to do."""


def fetch_snapshot(url: str, headers: Mapping[str, str], timeout: float) -> tuple[Scrape, dict[str, Any]]:
    """Return what a URL answers to a scrape, and the snapshot of it.

    Args:
        url: Of ``/metrics``, over http or https.
        headers: What to send in addition to the usual headers, for example ``Authorization``.
        timeout: Seconds for the whole of it.

    Raises:
        UnreadableScrapeError: It cannot be had, or is no metrics.
    """
    reader = SnapshotReader(url, 0.0)
    try:
        snapshot = reader.read(RemoteScrape(url, headers, timeout)(), time.time())
    except (SnapshotError, TextFormatError) as error:
        raise UnreadableScrapeError(reason(url, error)) from error
    return reader.scrape, snapshot


def fetch(url: str, headers: Mapping[str, str], timeout: float) -> Scrape:
    """Return the first of the two.

    Raises:
        UnreadableScrapeError: It cannot be had, or is no metrics.
    """
    return fetch_snapshot(url, headers, timeout)[0]


def reason(url: str, error: Exception) -> str:
    """Return a sentence that says why a URL gave no metrics, with the option that helps."""
    if isinstance(error, TextFormatError):
        return f"{url} answered something else than metrics: {error}"
    return str(error).replace("with a header or a bearer token", "with --header or --bearer-token-file")
