"""A scrape: from a registry, or from the files of all workers, to status, headers and bytes."""

from __future__ import annotations

import contextlib
import functools
import gzip
import logging
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

from web_prom.config.settings import PREFIX, Config
from web_prom.errors import BusyError
from web_prom.exposition.access_control import AccessControl
from web_prom.exposition.encoding.colon_names import keeping_colons
from web_prom.exposition.encoding.text_builder import Encode
from web_prom.exposition.gatherer import Gatherer
from web_prom.exposition.scrape_context import ContextFactory
from web_prom.exposition.single_flight import SingleFlight
from web_prom.metrics.layers import discard, find_outer
from web_prom.multiprocess.worker_detection import has_siblings
from web_prom.multiprocess.writing.activation import is_shared, share_values
from web_prom.types import Environ, StartResponse, WSGIApp

logger = logging.getLogger("web_prom")

Header = tuple[str, str]

ALLOW = ("Allow", "GET, HEAD, OPTIONS")
# A cache between Prometheus and us would serve yesterday's numbers; what we send depends on these two.
_COMMON: tuple[Header, ...] = (("Cache-Control", "no-store"), ("Vary", "Accept, Accept-Encoding"))
_TEXT: Header = ("Content-Type", "text/plain; charset=utf-8")

_OPENMETRICS_VERSION = re.compile("application/openmetrics-text; version=([^;]*)")

BEFORE_SCRAPE = "web_prom.before_scrape"
"""The key in an environ of what a server wants called before the text of a scrape is made; it may wait."""

# Workers may start after the first scrape; looking at each scrape would cost more than a small one does.
_LOOKS = 3


class Response(NamedTuple):
    """An HTTP response as plain values; each adapter makes its framework's own of it.

    Attributes:
        status: Status line, such as ``200 OK``.
        headers: Header names and values, ``Content-Length`` among them.
        body: The bytes; for HEAD empty, with the length of what GET would send.
    """

    status: str
    headers: list[Header]
    body: bytes


class _Wanted(NamedTuple):
    """What a scrape asks for."""

    content_type: str
    names: frozenset[str] | None
    compressed: bool


class Exposition:
    """Answers scrapes of one registry, or of a directory alone.

    With PROMETHEUS_MULTIPROC_DIR in force it answers for all workers that share the directory,
    otherwise for this process. Scrapes that overlap and ask for the same share one result. Safe to share
    between threads and to use after a fork.

    Args:
        registry: What to expose.
        config: The settings, of which those on access and on custom collectors count here.
        compress: Compress for clients that ask for it.
        directory: Expose what workers wrote to this directory, and no registry: for a process that has
            no application.
        context: Entered around each answer: a factory of context managers of the application that answers
            (:mod:`web_prom.exposition.scrape_context`). Without it, that of the registry's first application
            is.
    """

    def __init__(
        self,
        registry: Any = REGISTRY,
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
        )
        self._flight: SingleFlight[bytes | None] = SingleFlight()
        self._compress = compress
        self._is_about_others = directory is not None
        self._looks = 0
        self._warned = False

    def respond(self, environ: Mapping[str, Any]) -> Response:
        """Answer a scrape described by a WSGI environ (or Django's ``request.META``)."""
        with self._gatherer.context.enter():
            return self._respond(environ)

    def _respond(self, environ: Mapping[str, Any]) -> Response:
        method = environ.get("REQUEST_METHOD", "GET")
        denied = self.deny(environ)
        if denied is not None:
            return denied
        if method == "OPTIONS":
            return _finished("200 OK", [ALLOW], b"", method)
        if method not in ("GET", "HEAD"):
            return _finished("405 Method Not Allowed", [_TEXT, ALLOW], b"use GET\n", method)
        self._warn_of_lone_workers(environ)
        return self._scrape(environ, method)

    def deny(self, environ: Mapping[str, Any]) -> Response | None:
        """Return the answer to whoever may not scrape; None to who may."""
        denial = self.access.check(environ)
        if denial is None:
            return None
        method = environ.get("REQUEST_METHOD", "GET")
        return _finished(denial.status, [_TEXT, *denial.headers], b"", method)

    def _scrape(self, environ: Mapping[str, Any], method: str) -> Response:
        encode, content_type = encoder_for(environ.get("HTTP_ACCEPT"))
        encode, sent_format = _existing_format(encode, content_type)
        names = parse_qs(environ.get("QUERY_STRING", "")).get("name[]")
        wanted = _Wanted(
            sent_format,
            None if names is None else frozenset(names),
            self._compress and accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", "")),
        )
        try:
            body = self._flight.run(
                wanted,
                lambda: self._body(encode, wanted),
                # Of many workers, names with dots are written one by one: some seconds for 100,000 series.
                minor=names is not None or "escaping=dots" in sent_format,
                before=environ.get(BEFORE_SCRAPE),
            )
        except BusyError:
            busy = b"too many different scrapes wait; try again, or scrape everything\n"
            headers = [_TEXT, ("Retry-After", "1")]
            return _finished("503 Service Unavailable", headers, busy, method)
        if body is None:
            failed = b"the scrape failed; see the log\n"
            return _finished("500 Internal Server Error", [_TEXT], failed, method)
        headers = [("Content-Type", content_type)]
        if wanted.compressed:
            headers.append(("Content-Encoding", "gzip"))
        return _finished("200 OK", headers, body, method)

    def _body(self, encode: Encode, wanted: _Wanted) -> bytes | None:
        try:
            body = self._gatherer.gather(encode, wanted.content_type, wanted.names)
            # Level 1 is a third of the time of level 9 for a tenth more bytes on this kind of text.
            return gzip.compress(body, compresslevel=1, mtime=0) if wanted.compressed else body
        except Exception:
            logger.exception("a scrape failed")
            return None

    def _warn_of_lone_workers(self, environ: Mapping[str, Any]) -> None:
        if not (self._warned or self._is_about_others or is_shared()) and self._is_a_worker(environ):
            self._warned = True
            logger.warning(
                "this server has several workers and PROMETHEUS_MULTIPROC_DIR is not set: each scrape shows "
                "the numbers of one worker only. Under gunicorn add --config python:web_prom.gunicorn; "
                "elsewhere set PROMETHEUS_MULTIPROC_DIR to an empty directory before the server starts."
            )

    def _is_a_worker(self, environ: Mapping[str, Any]) -> bool:
        """Tell whether there are others beside this process: WSGI says so, ASGI does not."""
        told: bool | None = environ.get("wsgi.multiprocess")
        if told is None and self._looks < _LOOKS:
            self._looks += 1
            return has_siblings()
        return bool(told)


def encoder_for(accept: str | None) -> tuple[Encode, str]:
    """Return the encoder and content type that upstream chooses for an Accept header.

    A header that upstream cannot read (``version=abc``), or would send back with what no header may hold,
    is answered as if there were none.
    """
    try:
        encoder, content_type = choose_encoder(accept or "")
    except Exception:
        return choose_encoder("")
    if not (content_type.isascii() and content_type.isprintable()):
        return choose_encoder("")
    return keeping_colons(encoder), content_type


def _existing_format(encode: Encode, content_type: str) -> tuple[Encode, str]:
    """Return an encoder and its content type with the version that upstream's encoder tells apart.

    Upstream sends any version back that a client names, and writes the same text for all below 2. Clients
    that invent versions would each have a text made for them.
    """
    found = _OPENMETRICS_VERSION.match(content_type)
    if found is None:
        return encode, content_type
    numbers: list[int] = []
    with contextlib.suppress(ValueError):
        numbers.extend(int(part) for part in found[1].split("."))
    version = "2.0.0" if tuple(numbers) >= (2, 0, 0) else "1.0.0"
    if isinstance(encode, functools.partial) and "version" in encode.keywords:
        encode = functools.partial(encode, version=version)
    return encode, f"{content_type[: found.start(1)]}{version}{content_type[found.end(1) :]}"


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether an Accept-Encoding header allows gzip: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3."""
    wildcard = False
    for item in accept_encoding.split(","):
        coding, *parameters = (part.strip().lower() for part in item.split(";"))
        if coding in ("gzip", "x-gzip", "*"):
            allowed = not any(_is_zero(parameter) for parameter in parameters)
            if coding != "*":
                return allowed
            wildcard = allowed
    return wildcard


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    try:
        return name.strip() == "q" and float(value) == 0
    except ValueError:
        return True  # a weight that is no number asks for nothing


def make_wsgi_app(registry: Any = REGISTRY, disable_compression: bool = False) -> WSGIApp:
    """Return a WSGI application that answers scrapes, as prometheus_client's of the same name does.

    Mount it anywhere; it answers on every path below. Unlike upstream's it merges the workers that
    share a directory, answers HEAD, and reads Accept headers that are broken.

    Args:
        registry: What to expose.
        disable_compression: Never compress.

    Raises:
        ConfigError: PROM_COLLECTOR_TIMEOUT in the environment is not allowed.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
    """
    share_values(*[registry] if isinstance(registry, CollectorRegistry) else [])
    return as_wsgi(Exposition(registry, endpoint_config(), compress=not disable_compression))


def endpoint_config() -> Config:
    """Return the settings of what is mounted with no application of ours around it.

    Access is its mounter's affair, as with prometheus_client's; the environment tells how long a
    collector may take.

    Raises:
        ConfigError: It tells what is not allowed.
    """
    key = f"{PREFIX}COLLECTOR_TIMEOUT"
    return Config.load(environ={key: os.environ[key]} if key in os.environ else {})


def as_wsgi(exposition: Exposition) -> WSGIApp:
    """Return the WSGI application that answers with an exposition."""

    def metrics_app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        discard(find_outer(environ))
        status, headers, body = exposition.respond(environ)
        start_response(status, headers)
        return [body]

    return metrics_app


def _finished(status: str, headers: list[Header], body: bytes, method: str) -> Response:
    headers = [*headers, *_COMMON, ("Content-Length", str(len(body)))]
    return Response(status, headers, b"" if method == "HEAD" else body)
