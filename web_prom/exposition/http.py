"""The HTTP part of a scrape: from a request to status, headers and body as plain values."""

from __future__ import annotations

import gzip
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.config.raw_values import PREFIX
from web_prom.config.settings import Config
from web_prom.errors import BusyError, SnapshotError
from web_prom.exposition.access_control import AccessControl
from web_prom.exposition.encoding.encoder import Encode, MetricSource
from web_prom.exposition.gatherer import Gatherer
from web_prom.exposition.negotiation import accepts_gzip, encoder_for, with_known_version
from web_prom.exposition.scrape_context import ContextFactory
from web_prom.exposition.single_flight import SingleFlight
from web_prom.multiprocess.worker_detection import has_sibling_workers
from web_prom.multiprocess.writing.activation import is_shared, share_values

logger = logging.getLogger("web_prom")

Header = tuple[str, str]

ALLOW = ("Allow", "GET, HEAD, OPTIONS")
# A cache between Prometheus and this server must not return old values. The body depends on two request
# headers.
_CACHE_HEADERS: tuple[Header, ...] = (("Cache-Control", "no-store"), ("Vary", "Accept, Accept-Encoding"))

BEFORE_SCRAPE = "web_prom.before_scrape"
"""The key in an environ of a function that is called before the body of a scrape is built. It may block."""

# Other workers may start after the first scrape. One check takes longer than a small scrape, so there are
# few.
_MAX_SIBLING_CHECKS = 3


class Response(NamedTuple):
    """An HTTP response as plain values. Each adapter converts it to the response of its framework.

    Attributes:
        status: The status line, for example ``200 OK``.
        headers: Names and values of the headers, including ``Content-Length``.
        body: The bytes of the body. The body is empty for HEAD, while ``Content-Length`` is that of GET.
    """

    status: str
    headers: list[Header]
    body: bytes


def text_response(status: str, text: str, headers: Iterable[Header] = ()) -> Response:
    """Return a response with a plain text and its ``Content-Length``."""
    body = text.encode()
    content = [("Content-Type", "text/plain; charset=utf-8"), *headers, ("Content-Length", str(len(body)))]
    return Response(status, content, body)


def header_variables(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of a request as the ``HTTP_`` variables of a WSGI environ.

    The values of a repeated header are joined with commas. Those of ``Cookie``, which HTTP/2 repeats, are
    joined with semicolons. Names that contain an underscore are left out: ``X_Forwarded_For`` would become
    the same variable as ``X-Forwarded-For``, which a proxy has checked.
    """
    variables: dict[str, str] = {}
    for name, value in headers:
        if "_" not in name:
            key = "HTTP_" + name.upper().replace("-", "_")
            separator = "; " if key == "HTTP_COOKIE" else ","
            before = f"{variables[key]}{separator}" if key in variables else ""
            # A byte of a letter in UTF-8 can be white space to str.strip().
            variables[key] = before + value.strip(" \t")
    return variables


class Answerer(Protocol):
    """Answers requests: an :class:`Exposition`, or one with the live page."""

    def respond(self, environ: Mapping[str, Any]) -> Response:
        """Answer a request that is described by a WSGI environ. Never raises."""


class _ScrapeKey(NamedTuple):
    """What a scrape asks for. Scrapes with equal keys can share one body."""

    content_type: str
    names: frozenset[str] | None
    compressed: bool


class Exposition:
    """Answers scrapes of one registry, or of a shared directory without a registry.

    If this process writes to a shared directory, the answer contains the totals of all workers that share
    it. Otherwise it contains the values of this process. Scrapes that overlap and ask for the same share
    one body. Safe to share between threads and to use after a fork.

    Args:
        registry: The registry to expose.
        config: The settings. Only those for access control, custom collectors and the
            measurement of the interpreter are used here.
        compress: Compress the body for clients that accept it.
        directory: Expose what workers wrote to this directory, and no registry. For a process that does not
            run an application.
        context: Returns a context manager of the application that answers. It is entered around each answer
            (:mod:`web_prom.exposition.scrape_context`). The default is the context of the registry's first
            application.
    """

    def __init__(
        self,
        registry: MetricSource = REGISTRY,
        config: Config | None = None,
        *,
        compress: bool = True,
        directory: str | None = None,
        context: ContextFactory | None = None,
    ) -> None:
        config = config or Config()
        self.access = AccessControl(config)
        self._gatherer = Gatherer(
            registry if directory is None else None,
            directory,
            collector_timeout=config.collector_timeout,
            context=context,
            process_details=config.runtime,
        )
        self._single_flight: SingleFlight[bytes | None] = SingleFlight()
        self._compress = compress
        self._reads_directory_only = directory is not None
        self._sibling_checks = 0
        self._warned = False

    def respond(self, environ: Mapping[str, Any]) -> Response:
        """Answer a scrape that is described by a WSGI environ (or by Django's ``request.META``)."""
        with self._gatherer.context.enter():
            return self._respond(environ)

    def text(self) -> bytes:
        """Return a scrape in Prometheus' text format, for a reader in this process.

        It shares its result with scrapes that overlap and ask for the same.

        Raises:
            SnapshotError: The scrape failed. The log says why.
        """
        encode, content_type = encoder_for(None)
        key = _ScrapeKey(content_type, None, compressed=False)
        with self._gatherer.context.enter():
            body = self._single_flight.run(key, lambda: self._body(encode, key))
        if body is None:
            raise SnapshotError("the scrape failed; the log says why")
        return body

    def refusal_for(self, environ: Mapping[str, Any]) -> Response | None:
        """Return the refusal for a client that may not scrape, and None for a client that may."""
        denial = self.access.check(environ)
        if denial is None:
            return None
        return _finish(text_response(denial.status, "", denial.headers), environ)

    def _respond(self, environ: Mapping[str, Any]) -> Response:
        denied = self.refusal_for(environ)
        if denied is not None:
            return denied
        method = environ.get("REQUEST_METHOD", "GET")
        if method == "OPTIONS":
            return _finish(Response("200 OK", [ALLOW, ("Content-Length", "0")], b""), environ)
        if method not in ("GET", "HEAD"):
            return _finish(text_response("405 Method Not Allowed", "use GET\n", [ALLOW]), environ)
        self._warn_if_other_workers(environ)
        return _finish(self._scrape(environ), environ)

    def _scrape(self, environ: Mapping[str, Any]) -> Response:
        encode, content_type = encoder_for(environ.get("HTTP_ACCEPT"))
        encode, known_content_type = with_known_version(encode, content_type)
        names = parse_qs(environ.get("QUERY_STRING", "")).get("name[]")
        key = _ScrapeKey(
            known_content_type,
            None if names is None else frozenset(names),
            self._compress and accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", "")),
        )
        try:
            body = self._single_flight.run(
                key,
                lambda: self._body(encode, key),
                # With escaping=dots, each name of the merged families is escaped again: seconds for 100,000
                # series.
                low_priority=names is not None or "escaping=dots" in known_content_type,
                before=environ.get(BEFORE_SCRAPE),
            )
        except BusyError:
            text = "too many different scrapes wait; try again, or scrape everything\n"
            return text_response("503 Service Unavailable", text, [("Retry-After", "1")])
        if body is None:
            return text_response("500 Internal Server Error", "the scrape failed; see the log\n")
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        if key.compressed:
            headers.append(("Content-Encoding", "gzip"))
        return Response("200 OK", headers, body)

    def _body(self, encode: Encode, key: _ScrapeKey) -> bytes | None:
        try:
            body = self._gatherer.gather(encode, key.content_type, key.names)
            # Compared with level 9, level 1 takes a third of the time and yields a tenth more bytes for
            # such text.
            return gzip.compress(body, compresslevel=1, mtime=0) if key.compressed else body
        except Exception:
            logger.exception("a scrape failed")
            return None

    def _warn_if_other_workers(self, environ: Mapping[str, Any]) -> None:
        """Log a warning, once, if the server has other workers whose values are missing from the scrape."""
        if self._warned or self._reads_directory_only or is_shared() or not self._has_siblings(environ):
            return
        self._warned = True
        logger.warning(
            "this server has several workers and PROMETHEUS_MULTIPROC_DIR is not set: each scrape shows "
            "the numbers of one worker only. Under gunicorn add --config python:web_prom.gunicorn; "
            "elsewhere set PROMETHEUS_MULTIPROC_DIR to an empty directory before the server starts."
        )

    def _has_siblings(self, environ: Mapping[str, Any]) -> bool:
        """Return whether the server has other worker processes. Only WSGI servers state it in the environ."""
        stated: bool | None = environ.get("wsgi.multiprocess")
        if stated is None and self._sibling_checks < _MAX_SIBLING_CHECKS:
            self._sibling_checks += 1
            return has_sibling_workers()
        return bool(stated)


def standalone_exposition(registry: MetricSource, *, compress: bool) -> Exposition:
    """Return the exposition for a metrics application that is mounted without a middleware of this package.

    As with prometheus_client, access control is left to the program that mounts it. The timeout of custom
    collectors is read from the environment.

    Raises:
        ConfigError: PROM_COLLECTOR_TIMEOUT in the environment is not allowed.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
    """
    share_values(*[registry] if isinstance(registry, CollectorRegistry) else [])
    key = f"{PREFIX}COLLECTOR_TIMEOUT"
    config = Config.load(environ={key: os.environ[key]} if key in os.environ else {})
    return Exposition(registry, config, compress=compress)


def _finish(response: Response, environ: Mapping[str, Any]) -> Response:
    """Return the response with the headers for caches, and without the body if the method is HEAD."""
    body = b"" if environ.get("REQUEST_METHOD") == "HEAD" else response.body
    return Response(response.status, [*response.headers, *_CACHE_HEADERS], body)
