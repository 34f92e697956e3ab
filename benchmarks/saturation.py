"""What the measurements of saturation cost: a request, a tick of an event loop, and a scrape."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
from collections.abc import Callable, Iterable
from time import thread_time
from typing import Any

from prometheus_client import CollectorRegistry

from benchmarks.effort import Effort
from benchmarks.machine import describe
from benchmarks.pairing import BARE, Environ, Variant, compare, serve_asgi
from web_prom.asgi import PrometheusMiddleware as ASGIMiddleware
from web_prom.runtime.backlog import Backlog
from web_prom.runtime.measurements import Measurements
from web_prom.runtime.process_details import process_detail_families
from web_prom.wsgi import PrometheusMiddleware as WSGIMiddleware

# What is to be reached: microseconds for each request, milliseconds for each scrape.
MOST_FOR_QUEUE_TIME, MOST_FOR_REQUEST, MOST_FOR_SCRAPE = 1.0, 1.2, 2.0

WORKERS = 8

OFF: dict[str, Any] = {"queue_time": False, "zero_errors": False}
ON: dict[str, Any] = {"runtime": True}

EXPLANATION = """\
Microseconds of CPU time for each request, more than the same request without web-prom: the median of
{rounds} rounds, in each of which every variant had its turn. The socket is a real one, as gunicorn's
workers have it.
"""


def run(effort: Effort) -> None:
    """Measure, and print a table for each title.

    Raises:
        NoCaseError: No title has the text that was asked for.
    """
    titles = {
        "Saturation, a WSGI request": lambda: _requests(effort, _wsgi_variants(), _wsgi_environs(), None),
        "Saturation, an ASGI request": lambda: _requests(effort, _asgi_variants(), [_scope()], serve_asgi),
        "Saturation, a tick of an event loop": _tick,
        "Saturation, a scrape": _scrape,
    }
    chosen = effort.choose(list(titles))
    print(describe("web-prom", "prometheus-client"))
    print()
    print(EXPLANATION.format(rounds=effort.rounds))
    for title in chosen:
        print(title)
        titles[title]()
        print(flush=True)


# Requests --------------------------------------------------------------------------------------------


def _hello(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


async def _hello_asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def _wsgi_variants() -> list[Variant]:
    return [
        Variant(BARE, _hello),
        Variant("all off", WSGIMiddleware(_hello, registry=CollectorRegistry(), **OFF)),
        Variant(
            "queue time on",
            WSGIMiddleware(_hello, registry=CollectorRegistry(), **OFF | {"queue_time": "auto"}),
        ),
        Variant("all on", WSGIMiddleware(_hello, registry=CollectorRegistry(), **ON)),
    ]


def _asgi_variants() -> list[Variant]:
    return [
        Variant(BARE, _hello_asgi),
        Variant("all off", ASGIMiddleware(_hello_asgi, registry=CollectorRegistry(), **OFF)),
        Variant("all on", ASGIMiddleware(_hello_asgi, registry=CollectorRegistry(), **ON)),
    ]


_open: list[socket.socket] = []


def _wsgi_environs() -> list[Environ]:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    connection, _ = listener.accept()
    _open.extend((listener, client, connection))
    return [
        {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "REMOTE_ADDR": "127.0.0.1",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "gunicorn.socket": connection,
        }
    ]


def _scope() -> Environ:
    names = ("host", "user-agent", "accept", "accept-encoding", "connection", "x-forwarded-for")
    return {
        "type": "http",
        "method": "GET",
        "path": "/",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [(name.encode(), b"value") for name in names],
    }


def _requests(
    effort: Effort, variants: list[Variant], environs: list[Environ], serve: Callable[..., float] | None
) -> None:
    costs = compare(variants, environs, rounds=effort.rounds, requests=10 * effort.requests, serve=serve)
    off = costs["all off"].median
    for name, cost in costs.items():
        row = f"  {name:42}{cost.median * 1e6:8.2f} us"
        bar = {"queue time on": MOST_FOR_QUEUE_TIME, "all on": MOST_FOR_REQUEST}.get(name)
        if bar:
            more = (cost.median - off) * 1e6
            row += f"   {more:5.2f} us more than off, at most {bar} us: {'met' if more <= bar else 'MISSED'}"
        print(row)
    while _open:
        _open.pop().close()


# Ticks and scrapes -----------------------------------------------------------------------------------


def _tick() -> None:
    seconds = asyncio.run(_ticks(2000))
    print(f"  {'each, 20 in a second':42}{seconds * 1e6:8.2f} us   {seconds * 20:.4%} of a core")


async def _ticks(count: int) -> float:
    measurements = Measurements()
    measurements.loop.start()
    loop = asyncio.get_running_loop()
    begun = thread_time()
    for _ in range(count):
        measurements.loop._tick(loop, loop.time(), 1)
    seconds = (thread_time() - begun) / count
    for task in list(getattr(loop, "_scheduled", ())):
        task.cancel()
    return seconds


def _scrape() -> None:
    children = [_child() for _ in range(WORKERS)]
    try:
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))):
            pids = {str(worker): pid for worker, pid in enumerate(children)}
            backlog = Backlog()
            ways = {
                "accept queues": lambda: backlog.families([os.getpid(), *pids.values()]),
                "accept queues, after a worker came": lambda: Backlog().families(
                    [os.getpid(), *pids.values()]
                ),
                "threads, page faults, context switches": lambda: process_detail_families(pids),
            }
            total = 0.0
            for name, gather in ways.items():
                seconds = statistics.median(_seconds(gather) for _ in range(50))
                total += 0.0 if "after" in name else seconds
                print(f"  {name + f', {WORKERS} workers':52}{seconds * 1e3:8.3f} ms")
            met = "met" if total * 1e3 <= MOST_FOR_SCRAPE else "MISSED"
            print(f"  {'together':52}{total * 1e3:8.3f} ms   at most {MOST_FOR_SCRAPE} ms: {met}")
    finally:
        for pid in children:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def _child() -> int:
    pid = os.fork()
    if pid == 0:
        os.read(os.pipe()[0], 1)
        os._exit(0)
    return pid


def _seconds(function: Callable[[], object]) -> float:
    begun = thread_time()
    function()
    return thread_time() - begun
