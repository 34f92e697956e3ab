"""ASGI applications that answer scrapes. The response is computed in a thread, not in the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prometheus_client import REGISTRY

from web_prom.exposition.http import Answerer, Response, header_variables, standalone_exposition
from web_prom.metrics.layers import discard, find_outer_asgi
from web_prom.metrics.routes import exclude
from web_prom.types import ASGIApp, Receive, Scope, Send

# One thread computes a result; the others wait for it, or for a result with other names (name[]). There are
# more threads than results that may wait, so that a scrape of all metrics always finds a thread.
_MAX_THREADS = 32

_CHUNK_BYTES = 262_144

_pool: tuple[int, ThreadPoolExecutor] | None = None


def make_asgi_app(registry: Any = REGISTRY, disable_compression: bool = False) -> ASGIApp:
    """Return an ASGI application that answers scrapes, like prometheus_client's function of the same name.

    Mount it anywhere: it answers at every path below the mount. Starlette's ``Mount("/metrics", ...)``
    redirects ``/metrics`` to ``/metrics/``; ``Route("/metrics", make_asgi_app())`` answers at ``/metrics``.
    In contrast to upstream's, it merges the workers that share a directory, answers HEAD, accepts malformed
    Accept headers, and does not block the event loop.

    Args:
        registry: The registry to expose.
        disable_compression: Never compress.

    Raises:
        ConfigError: PROM_COLLECTOR_TIMEOUT in the environment is not allowed.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
        TypeError: ``registry`` has no method ``collect``.
    """
    exposition = standalone_exposition(registry, compress=not disable_compression)

    # Excluded, because a router answers some requests itself (a mount redirects to its trailing slash).
    return exclude(MetricsApp(exposition))


class MetricsApp:
    """An ASGI application that answers scrapes. Safe to share between event loops.

    It is an object and not a function: ``Route`` of Starlette would call a function as a view.

    Args:
        exposition: Computes the responses.
    """

    def __init__(self, exposition: Answerer) -> None:
        self._exposition = exposition

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a scrape, or the lifespan events of a server."""
        if scope["type"] == "http":
            await send_metrics(self._exposition, scope, send)
        elif scope["type"] == "lifespan":
            await handle_lifespan(receive, send)
        else:
            raise ValueError(f"scrapes are HTTP requests, but the scope has the type {scope['type']!r}")


async def send_metrics(exposition: Answerer, scope: Scope, send: Send) -> None:
    """Answer a scrape. Outer layers do not count it and do not show it as in progress."""
    discard(find_outer_asgi(scope))
    status, headers, whole = await _respond(exposition, to_environ(scope))
    body = memoryview(whole)
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": int(status[:3]), "headers": encoded})
    # In chunks, because a server buffers each chunk until the client has read it.
    while len(body) > _CHUNK_BYTES:
        await send({"type": "http.response.body", "body": bytes(body[:_CHUNK_BYTES]), "more_body": True})
        body = body[_CHUNK_BYTES:]
    await send({"type": "http.response.body", "body": bytes(body)})


async def handle_lifespan(receive: Receive, send: Send) -> None:
    """Confirm the startup and the shutdown of a server."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def to_environ(scope: Scope) -> dict[str, Any]:
    """Return the part of a WSGI environ that an access check may read, from an ASGI scope."""
    path, root = scope.get("path", ""), scope.get("root_path", "").rstrip("/")
    client = scope.get("client")
    headers = ((str(name, "latin-1"), str(value, "latin-1")) for name, value in scope.get("headers") or ())
    return {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root.encode().decode("latin-1"),
        "PATH_INFO": (path[len(root) :] if path.startswith(f"{root}/") else path).encode().decode("latin-1"),
        "QUERY_STRING": str(scope.get("query_string", b""), "latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "REMOTE_ADDR": client[0] if client else "",
        "wsgi.url_scheme": scope.get("scheme", "http"),
        **header_variables(headers),
    }


async def _respond(exposition: Answerer, environ: Mapping[str, Any]) -> Response:
    """Compute the response in a thread, because it takes longer than an event loop may be blocked."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return await _respond_without_asyncio(exposition, environ)
    try:
        response = loop.run_in_executor(_executor(), exposition.respond, environ)
    except RuntimeError:  # no thread can be started, for example at the end of the process
        return exposition.respond(environ)
    return await response


async def _respond_without_asyncio(exposition: Answerer, environ: Mapping[str, Any]) -> Response:
    """Compute the response in a thread of trio; on an unknown event loop without a thread."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        response: Response = await trio.to_thread.run_sync(exposition.respond, environ)
        return response
    return exposition.respond(environ)


def _executor() -> ThreadPoolExecutor:
    """Return the threads for scrapes. The event loop's default threads are busy under load.

    The threads start with the first scrape. A forked child, which has no threads of its parent, starts new
    ones. No lock is used, because a fork could leave it locked forever. Two pools that are created at the
    same time do no harm.
    """
    global _pool  # noqa: PLW0603 - one pool for all loops and applications of a process
    if _pool is None or _pool[0] != os.getpid():
        _pool = (os.getpid(), ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="web-prom-scrape"))
    return _pool[1]
