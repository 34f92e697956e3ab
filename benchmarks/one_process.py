"""One process of a paired benchmark: one framework, one kind of values, one number of routes.

prometheus_client selects the class of its values when it is imported, and the state that one benchmark leaves
in a process must not slow down the next one. So each runs in its own interpreter, and prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
from dataclasses import replace
from importlib import import_module
from typing import Any
from wsgiref.util import FileWrapper

from prometheus_client import values

from benchmarks.pairing import BARE, OURS, Client, Environ, Variant, compare, serve_asgi, serve_wsgi
from web_prom.multiprocess.writing.activation import is_shared

ASGI = ("requests_starlette", "requests_django_async")
"""The modules that are measured with ASGI."""


def main() -> None:
    """Measure what the arguments select."""
    arguments = _arguments()
    framework = import_module(f"benchmarks.{arguments.module}")
    asgi = arguments.module in ASGI
    request, checked = (_scope, _checked_asgi) if asgi else (_environ, _checked)
    environs = [request(framework.path_of(number)) for number in range(arguments.paths)]
    makers = {**framework.VARIANTS, **(framework.PEERS if arguments.peers else {})}
    variants: list[Variant] = []
    failed: dict[str, str] = {}
    changes: list[str] = getattr(framework, "changes_of_thread", [])
    threads: dict[str, int] = {}
    # web-prom first, because it replaces all existing values when it switches to shared values.
    variant = framework.VARIANTS[OURS](arguments.paths)
    ours = with_values(variant, values.ValueClass)
    stock = values.MultiProcessValue() if is_shared() else values.ValueClass  # type: ignore[no-untyped-call]
    for name, make in makers.items():
        values.ValueClass = stock
        try:
            variant = ours if name == OURS else with_values(make(arguments.paths), stock)
            variants.append(checked(variant, environs[0]))
            changes.clear()
            checked(variant, environs[0])
            threads[name] = len(changes)
        except Exception as error:  # not installed, or not compatible with these versions
            if name not in framework.PEERS:
                raise
            failed[name] = str(error) or type(error).__name__
    costs = compare(
        variants,
        environs,
        rounds=arguments.rounds,
        requests=arguments.requests,
        progress=_progress,
        serve=serve_asgi if asgi else serve_wsgi,
    )
    more = {name: count - threads[BARE] for name, count in threads.items()}
    json.dump({"costs": costs, "failed": failed, "threads": more}, sys.stdout)


def with_values(variant: Variant, value_class: Any) -> Variant:
    """Return a variant that creates the values of new label sets with the same class as the others."""

    def activate() -> None:
        values.ValueClass = value_class
        variant.activate()

    return replace(variant, activate=activate)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="the module with the variants, without its package")
    parser.add_argument("--paths", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--peers", action="store_true")
    return parser.parse_args()


def _environ(path: str) -> Environ:
    """Return the environ that gunicorn creates for a GET request through a proxy."""
    return {
        "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0),
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
        "SERVER_SOFTWARE": "gunicorn",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": "",
        "RAW_URI": path,
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": "benchmark",
        "HTTP_ACCEPT": "*/*",
        "HTTP_ACCEPT_ENCODING": "gzip, deflate",
        "HTTP_X_FORWARDED_FOR": "192.0.2.1",
    }


def _scope(path: str) -> Environ:
    """Return the scope that uvicorn creates for the same request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"user-agent", b"benchmark"),
            (b"accept", b"*/*"),
            (b"accept-encoding", b"gzip, deflate"),
            (b"x-forwarded-for", b"192.0.2.1"),
        ],
        "state": {},
    }


def _checked_asgi(variant: Variant, scope: Environ) -> Variant:
    """Check that a variant answers, and return it."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    variant.activate()
    asyncio.run(variant.app(scope.copy(), Client(), send))
    if [message.get("status", message.get("body")) for message in sent] != [200, b"ok"]:
        raise RuntimeError(f"it answered {sent}")
    return variant


def _checked(variant: Variant, environ: Environ) -> Variant:
    """Check that a variant answers, and return it."""
    statuses: list[str] = []

    def start_response(status: str, headers: object, exc_info: object = None) -> object:
        statuses.append(status)
        return None

    variant.activate()
    body = variant.app(environ.copy(), start_response)
    answer = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    if statuses != ["200 OK"] or answer != b"ok":
        raise RuntimeError(f"it answered {statuses} {answer[:80]!r}")
    return variant


def _progress(done: int) -> None:
    print(done, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
