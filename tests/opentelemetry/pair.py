"""One process measures the same requests twice: with OpenTelemetry's instrumentation and with web-prom.

Run as ``python -m tests.opentelemetry.pair flask`` with ``OTEL_SEMCONV_STABILITY_OPT_IN=http``; prints JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, CollectorRegistry

from tests.web_prom.asgi import asgi_server
from tests.web_prom.support import Server, environ_of

DURATION = "http_server_request_duration_seconds"
OPTIONS: dict[str, Any] = {"naming": "opentelemetry", "request_size": True, "response_size": True}

Labels = dict[str, str]
Requests = dict[str, Callable[[], object]]
"""The requests, by what each of them tests."""


def provider() -> MeterProvider:
    """Return a meter provider whose metrics are on prometheus_client's default registry."""
    return MeterProvider(metric_readers=[PrometheusMetricReader()])


def serve(app: Any, path: str, method: str = "GET", **more: Any) -> None:
    """Serve one WSGI request; ignore an exception."""
    environ = environ_of(path, method, **{"SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "testserver", **more})
    with contextlib.suppress(Exception):
        Server().run(app, environ)


def serve_asgi(app: Any, path: str, method: str = "GET", **more: Any) -> None:
    """Serve one ASGI request; ignore an exception."""
    scope = asgi_server.scope_of(path, method, **more)
    with contextlib.suppress(Exception):
        asgi_server.Server().run(app, scope)


def families(registry: CollectorRegistry) -> Iterator[Any]:
    """Yield the families of a registry that belong to the conventions."""
    return (family for family in registry.collect() if family.name.startswith("http_server"))


def described(registry: CollectorRegistry) -> dict[str, Any]:
    """Return the type, the help, the labels and the buckets of each family."""
    found = {}
    for family in families(registry):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        buckets = {float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels}
        found[family.name] = {
            "type": family.type,
            "help": family.documentation,
            "labels": sorted(label for label in labels if not label.startswith("otel_scope_")),
            "scope": sorted(label for label in labels if label.startswith("otel_scope_")),
            "buckets": sorted(buckets)[:-1],
        }
    return found


def counted(registry: CollectorRegistry) -> dict[frozenset[tuple[str, str]], float]:
    """Return the number of requests by their labels, without those whose count is zero."""
    return {
        frozenset(
            (name, value) for name, value in sample.labels.items() if value and "otel" not in name
        ): sample.value
        for family in families(registry)
        for sample in family.samples
        if sample.name == f"{DURATION}_count"
    }


def come(before: dict[Any, float], after: dict[Any, float]) -> list[Labels]:
    """Return the label sets that were counted between two scrapes."""
    return [dict(sorted(key)) for key, value in after.items() for _ in range(int(value - before.get(key, 0)))]


def compare(requests: Requests, ours: CollectorRegistry) -> dict[str, Any]:
    """Send each request; return the measurements and the families of both."""
    rows = {}
    for name, make in requests.items():
        before = counted(ours), counted(REGISTRY)
        make()
        rows[name] = [
            come(earlier, counted(registry))
            for earlier, registry in zip(before, (ours, REGISTRY), strict=True)
        ]
    active = [
        [
            [{key: value for key, value in sample.labels.items() if "otel" not in key}, sample.value]
            for family in families(registry)
            for sample in family.samples
            if sample.name == "http_server_active_requests"
        ]
        for registry in (ours, REGISTRY)
    ]
    return {"requests": rows, "families": [described(ours), described(REGISTRY)], "active": active}


def of_wsgi() -> tuple[Requests, CollectorRegistry]:
    """Measure a plain WSGI application."""
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

    from web_prom.wsgi import PrometheusMiddleware

    def app(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/raise":
            raise LookupError
        start_response(f"{path[1:] if path[1:].isdecimal() else 200} X", [])
        return breaking() if path == "/break" else [b"x"]

    def breaking() -> Iterator[bytes]:
        yield b"x"
        raise LookupError

    ours = CollectorRegistry()
    both = PrometheusMiddleware(
        OpenTelemetryMiddleware(app, meter_provider=provider()), registry=ours, **OPTIONS
    )
    return {
        "200": lambda: serve(both, "/200"),
        "404": lambda: serve(both, "/404"),
        "503": lambda: serve(both, "/503"),
        "302": lambda: serve(both, "/302"),
        "raised": lambda: serve(both, "/raise"),
        "broken body": lambda: serve(both, "/break"),
        "odd method": lambda: serve(both, "/200", "BREW"),
        "small letters": lambda: serve(both, "/200", "get"),
        "https": lambda: serve(both, "/200", **{"wsgi.url_scheme": "https"}),
        "odd scheme": lambda: serve(both, "/200", **{"wsgi.url_scheme": "gopher"}),
        "HTTP/1.0": lambda: serve(both, "/200", SERVER_PROTOCOL="HTTP/1.0"),
        "HTTP/2.0": lambda: serve(both, "/200", SERVER_PROTOCOL="HTTP/2.0"),
        "odd protocol": lambda: serve(both, "/200", SERVER_PROTOCOL="HTTP/7.7"),
    }, ours


def of_flask() -> tuple[Requests, CollectorRegistry]:
    """Measure a Flask application."""
    from flask import Flask, Response
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    from flask_prom import FlaskProm

    app = Flask("shop")
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.logger.disabled = True
    FlaskInstrumentor().instrument_app(app, meter_provider=provider())
    ours = CollectorRegistry()
    FlaskProm(app, registry=ours, **OPTIONS)

    @app.route("/status/<int:code>/")
    def status(code: int) -> tuple[str, int]:
        return "x", code

    @app.route("/raise")
    def raising() -> str:
        raise LookupError

    @app.route("/break")
    def breaking() -> Response:
        def chunks() -> Iterator[str]:
            yield "x"
            raise LookupError

        return Response(chunks())

    app.register_error_handler(KeyError, lambda error: ("Not here.", 404))

    @app.route("/handled")
    def handled() -> str:
        raise KeyError

    return _site(lambda *request, **more: serve(app, *request, **more)), ours


def of_django() -> tuple[Requests, CollectorRegistry]:
    """Measure a Django project."""
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    ours = CollectorRegistry()
    settings.configure(
        ROOT_URLCONF="tests.opentelemetry.urls",
        ALLOWED_HOSTS=["testserver"],
        INSTALLED_APPS=["django_prom"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        LOGGING_CONFIG=None,
        **{f"PROM_{name.upper()}": value for name, value in OPTIONS.items()},
    )
    from django_prom import conf

    conf.REGISTRY = ours
    DjangoInstrumentor().instrument(meter_provider=provider())
    django.setup()
    handler = WSGIHandler()
    return _site(lambda *request, **more: serve(handler, *request, **more)), ours


def of_fastapi() -> tuple[Requests, CollectorRegistry]:
    """Measure a FastAPI application."""
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import StreamingResponse
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    from web_prom.asgi import PrometheusMiddleware

    async def status(code: int) -> Response:
        return Response("x", code)

    async def raising() -> str:
        raise LookupError

    async def breaking() -> StreamingResponse:
        async def chunks() -> Any:
            yield "x"
            raise LookupError

        return StreamingResponse(chunks())

    async def not_here(request: Request, error: KeyError) -> Response:
        return Response("Not here.", 404)

    async def handled() -> str:
        raise KeyError

    # FastAPI looks annotations up in the module, where these names are not defined.
    for function in (status, raising, breaking, handled):
        function.__annotations__.pop("return")
    app = FastAPI()
    app.add_api_route("/status/{code}/", status)
    app.add_api_route("/raise", raising)
    app.add_api_route("/break", breaking)
    app.add_api_route("/handled", handled)
    app.add_exception_handler(KeyError, not_here)
    FastAPIInstrumentor.instrument_app(app, meter_provider=provider())
    ours = CollectorRegistry()
    both = PrometheusMiddleware(app, registry=ours, **OPTIONS)

    def send(path: str, method: str = "GET", **more: Any) -> None:
        serve_asgi(both, path, method, **more)

    return {
        **_site(send),
        "https": lambda: send("/status/200/", scheme="https"),
        "HTTP/2": lambda: send("/status/200/", http_version="2"),
    }, ours


def _site(send: Callable[..., None]) -> Requests:
    """Return the requests that each framework's application handles."""
    return {
        "200": lambda: send("/status/200/"),
        "HEAD": lambda: send("/status/200/", "HEAD"),
        "404 of a view": lambda: send("/status/404/"),
        "503": lambda: send("/status/503/"),
        "no route": lambda: send("/nowhere"),
        "slash": lambda: send("/status/200"),
        "405": lambda: send("/status/200/", "DELETE"),
        "odd method": lambda: send("/status/200/", "BREW"),
        "raised": lambda: send("/raise"),
        "handled": lambda: send("/handled"),
        "broken body": lambda: send("/break"),
    }


def main() -> None:
    """Measure the framework that the first argument names."""
    requests, ours = {"wsgi": of_wsgi, "flask": of_flask, "django": of_django, "fastapi": of_fastapi}[
        sys.argv[1]
    ]()
    json.dump(compare(requests, ours), sys.stdout)


if __name__ == "__main__":
    main()
