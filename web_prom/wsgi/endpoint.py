"""WSGI applications that answer scrapes."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY

from web_prom.exposition.encoding.encoder import MetricSource
from web_prom.exposition.http import Answerer, standalone_exposition
from web_prom.metrics.layers import discard, find_outer
from web_prom.types import Environ, StartResponse, WSGIApp


def make_wsgi_app(registry: MetricSource = REGISTRY, disable_compression: bool = False) -> WSGIApp:
    """Return a WSGI application that answers scrapes, as prometheus_client's function of the same name does.

    It can be mounted at any path, and it answers every path below. Three things differ from
    prometheus_client: it reports the totals of all workers that share a directory, it answers HEAD, and it
    answers requests whose Accept header cannot be parsed.

    Args:
        registry: The registry to expose.
        disable_compression: Never compress.

    Raises:
        ConfigError: PROM_COLLECTOR_TIMEOUT in the environment is not allowed.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
        TypeError: ``registry`` has no method ``collect``.
    """
    return metrics_app(standalone_exposition(registry, compress=not disable_compression))


def metrics_app(exposition: Answerer) -> WSGIApp:
    """Return the WSGI application that answers scrapes with an exposition.

    A middleware around it neither counts the scrape nor shows it as in progress.
    """

    def answer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        discard(find_outer(environ))
        status, headers, body = exposition.respond(environ)
        start_response(status, headers)
        return [body]

    return answer
