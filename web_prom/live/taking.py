"""Snapshots for programs: one document from a registry, from the text of a scrape, or from a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import REGISTRY

from web_prom.config.settings import Config
from web_prom.exposition.encoding.encoder import MetricSource
from web_prom.exposition.http import Exposition
from web_prom.live.checks import SetUpChecks
from web_prom.live.remote import RemoteScrape
from web_prom.live.source import SnapshotSource


def take_snapshot(
    metrics: MetricSource | str | bytes = REGISTRY,
    *,
    title: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 5.0,
) -> dict[str, Any]:
    """Return the snapshot of a service: the document of ``snapshot.json`` of the live page.

    All counters are totals since the service started. To get rates, compare two snapshots; a counter that
    went back began at 0 again.

    Args:
        metrics: A registry; the text of a scrape; or the URL of ``/metrics``.
        title: What the document calls the service; by default the URL, or "a registry" or "a text".
        headers: For a URL: headers to send, for example ``Authorization``.
        timeout: For a URL: seconds for the whole scrape.

    Raises:
        SnapshotError: The URL gives no metrics, or the scrape of the registry failed.
        TextFormatError: The text is not in Prometheus' text format.
    """
    if isinstance(metrics, bytes) or (isinstance(metrics, str) and not _is_url(metrics)):
        text = metrics.encode() if isinstance(metrics, str) else metrics
        return SnapshotSource(lambda: text, title or "a text", SetUpChecks()).snapshot()
    if isinstance(metrics, str):
        return remote_source(metrics, title=title, headers=headers, timeout=timeout).snapshot()
    exposition = Exposition(metrics, Config())
    return SnapshotSource(exposition.text, title or "a registry", SetUpChecks()).snapshot()


def remote_source(
    url: str,
    *,
    title: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 5.0,
    interval_seconds: float = 5.0,
) -> SnapshotSource:
    """Return a source of snapshots of a running service.

    Nothing is read before the first snapshot. A service that hangs delays it by the timeout at most; who asks
    meanwhile gets the same error. No thread is started.

    Args:
        url: Of ``/metrics``.
        title: What the page calls the service; by default the URL.
        headers: What to send with each scrape.
        timeout: Seconds for each scrape.
        interval_seconds: The time between two snapshots.

    Raises:
        SnapshotError: The text is no URL of metrics.
    """
    scrape = RemoteScrape(url, headers, timeout)
    return SnapshotSource(scrape, title or url, SetUpChecks(), interval_seconds=interval_seconds)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://")) and "\n" not in text
