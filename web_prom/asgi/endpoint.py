"""Scrapes under ASGI: from a scope to an answer, without holding up the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from web_prom.exposition.http import Exposition, Response, header_variables
from web_prom.metrics.layers import discard, find_outer_asgi
from web_prom.types import Receive, Scope, Send

# One works, those that came meanwhile wait for its result. There are more threads than different results with
# name[] to wait for, so that a scrape of everything finds a thread.
_THREADS = 32

_PIECE_BYTES = 262_144

_pool: tuple[int, ThreadPoolExecutor] | None = None


class MetricsApp:
    """An ASGI application that answers scrapes. Safe to share between event loops.

    It is an object, and not a function, which ``Route`` of Starlette would call as a view.

    Args:
        exposition: What it answers with.
    """

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the start and the end of a server."""
        if scope["type"] == "http":
            await answer(self._exposition, scope, send)
        elif scope["type"] == "lifespan":
            await live(receive, send)
        else:
            raise ValueError(f"metrics are answered to http, not to {scope['type']}")


async def answer(exposition: Exposition, scope: Scope, send: Send) -> None:
    """Answer a scrape. A layer around it neither counts it nor shows it as in progress."""
    discard(find_outer_asgi(scope))
    status, headers, whole = await _respond(exposition, environ_of(scope))
    body = memoryview(whole)
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": int(status[:3]), "headers": encoded})
    # In pieces: a server buffers what it is given until the client has read it.
    while len(body) > _PIECE_BYTES:
        await send({"type": "http.response.body", "body": bytes(body[:_PIECE_BYTES]), "more_body": True})
        body = body[_PIECE_BYTES:]
    await send({"type": "http.response.body", "body": bytes(body)})


async def live(receive: Receive, send: Send) -> None:
    """Tell a server that starts and stops that this is fine."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def environ_of(scope: Scope) -> dict[str, Any]:
    """Return a request as WSGI has it, as far as whoever decides on access may ask."""
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


async def _respond(exposition: Exposition, environ: Mapping[str, Any]) -> Response:
    """Have a thread compute the answer: it takes longer than a loop may stand still."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return await _respond_elsewhere(exposition, environ)
    try:
        answer = loop.run_in_executor(_threads(), exposition.respond, environ)
    except RuntimeError:  # there is no thread, as at the process's end
        return exposition.respond(environ)
    return await answer


async def _respond_elsewhere(exposition: Exposition, environ: Mapping[str, Any]) -> Response:
    """Do the same on a loop of trio, and on one that is not known without a thread."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        response: Response = await trio.to_thread.run_sync(exposition.respond, environ)
        return response
    return exposition.respond(environ)


def _threads() -> ThreadPoolExecutor:
    """Return threads of our own: the loop's are busy just when a scrape matters most.

    They start with the first scrape, and anew in a forked child, which has none of its parent's. Without a
    lock, which a fork could leave locked for ever: two pools that are made at once do no harm.
    """
    global _pool  # noqa: PLW0603 - one for all loops and applications of a process
    if _pool is None or _pool[0] != os.getpid():
        _pool = (os.getpid(), ThreadPoolExecutor(_THREADS, thread_name_prefix="web-prom-scrape"))
    return _pool[1]
