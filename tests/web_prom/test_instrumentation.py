"""Instrumentation of applications that a server has loaded, with layers around them."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import wrapt
from flask import Flask
from prometheus_client import REGISTRY, CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

import web_prom.asgi
import web_prom.wsgi
from flask_prom import FlaskProm
from tests.web_prom.support import python, serve
from web_prom.instrumentation import instrument

pytestmark = pytest.mark.slow


def flask_app() -> Flask:
    """Return an application that does not use web-prom."""
    app = Flask("shop")

    @app.get("/items/<int:number>")
    def item(number: int) -> str:
        return str(1 // number)

    return app


class Slotted:
    """A layer without a ``__dict__``, as in sentry-sdk."""

    __slots__ = ("app",)

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)


class WithWsgiAttribute(Slotted):
    """A layer that keeps the application in ``wsgi``, as in OpenTelemetry."""

    def __init__(self, wsgi: Any) -> None:
        self.wsgi = wsgi

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.wsgi(environ, start_response)


def decorated(app: Any) -> Any:
    """Return a function that has the application as ``__wrapped__``."""

    @functools.wraps(app, updated=())
    def call(environ: Any, start_response: Any) -> Any:
        return app(environ, start_response)

    return call


def replaced(app: Flask) -> Any:
    """Return a layer that keeps ``wsgi_app``, which is already wrapped."""
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    return Slotted(app.wsgi_app)


LAYERS: dict[str, Callable[[Flask], Any]] = {
    "none": lambda app: app,
    "field": ProxyFix,
    "slot": Slotted,
    "other name": WithWsgiAttribute,
    "bound method": lambda app: ProxyFix(app.wsgi_app),
    "bound method, replaced": replaced,
    "decorated function": decorated,
    "proxy object": wrapt.CallableObjectProxy,
    "several": lambda app: WithWsgiAttribute(Slotted(ProxyFix(app))),
    "dispatcher": lambda app: DispatcherMiddleware(Flask("other"), {"/x": Flask("third"), "/shop": app}),
}


def in_a_process(function: Callable[..., Any]) -> str:
    """Run a function of this module in a new process with an empty registry; return its output."""
    name = function.__name__
    return python(f"from {__name__} import {name}; {name}()")


def serve_in_each_layer() -> None:
    """Print what two requests add to the metrics."""
    before: Counter[str] = Counter()
    for name, layer in LAYERS.items():
        served = instrument(layer(flask_app()), asgi=False)
        prefix = "/shop" if name == "dispatcher" else ""
        for path in ("/items/1", "/items/0"):
            serve(served, prefix + path)
        now = Counter(
            {
                " ".join((sample.name, *sample.labels.values())): int(sample.value)
                for family in REGISTRY.collect()
                for sample in family.samples
                if sample.name in ("http_requests_total", "http_request_exceptions_total")
            }
        )
        print(name, sorted((now - before).items()), sep=": ")
        before = now


def test_fault_86_instrument_finds_a_flask_application_in_each_layer() -> None:
    expected = [
        ("http_request_exceptions_total GET /items/<int:number> ZeroDivisionError", 1),
        ("http_requests_total GET /items/<int:number> 200", 1),
        ("http_requests_total GET /items/<int:number> 500", 1),
    ]
    shown = in_a_process(serve_in_each_layer).splitlines()
    assert shown == [f"{name}: {expected}" for name in LAYERS]


def check_unchanged_applications() -> None:
    """Raise AssertionError if an instrumented application is changed, or if a property is read."""
    app = flask_app()
    FlaskProm(app, namespace="own", registry=CollectorRegistry())
    for name, layer in LAYERS.items():
        if name != "bound method, replaced":  # there the replaced attribute belongs to web-prom
            outermost = layer(app)
            assert instrument(outermost, asgi=False) is outermost, name

    disabled = flask_app()
    FlaskProm(disabled, enabled=False)
    outermost = ProxyFix(disabled)
    assert instrument(outermost, asgi=False) is outermost

    added = Starlette(middleware=[Middleware(web_prom.asgi.PrometheusMiddleware)])
    assert instrument(added, asgi=True) is added

    class Careful:
        @property
        def app(self) -> Any:
            raise AssertionError

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

        def __call__(self, environ: Any, start_response: Any) -> Any:
            return []

    instrument(Careful(), asgi=False)
    # Layers that refer to each other.
    first = Slotted(None)
    first.app = Slotted(first)
    instrument(first, asgi=False)


def test_fault_86_instrument_does_not_change_an_application_with_web_prom() -> None:
    in_a_process(check_unchanged_applications)


def wrap_others() -> None:
    """Raise AssertionError if an application of an unknown framework gets the wrong middleware."""

    def wsgi(environ: Any, start_response: Any) -> Any:
        return []

    def asgi(scope: Any, receive: Any, send: Any) -> Any:
        """Return a coroutine, but without ``async``: only the server knows the protocol."""

    assert isinstance(instrument(wsgi, asgi=False), web_prom.wsgi.PrometheusMiddleware)
    assert isinstance(instrument(asgi, asgi=True), web_prom.asgi.PrometheusMiddleware)
    for once in (instrument(wsgi, asgi=False), instrument(asgi, asgi=True)):
        assert instrument(once, asgi=False) is once


def test_fault_86_instrument_wraps_any_other_application() -> None:
    in_a_process(wrap_others)


def instrument_without_the_adapter() -> None:
    """Raise AssertionError if an adapter that cannot be imported stops the application."""
    sys.modules["flask_prom.instrumentation"] = None  # type: ignore[assignment]
    served = instrument(flask_app(), asgi=False)
    assert isinstance(served, web_prom.wsgi.PrometheusMiddleware)
    assert serve(served, "/items/1") == b"1"


def test_fault_86_instrument_works_if_an_adapter_cannot_be_imported() -> None:
    in_a_process(instrument_without_the_adapter)


@pytest.mark.parametrize("module", ["aiohttp.worker", "gunicorn.workers.gtornado"])
def test_fault_86_post_worker_init_skips_unknown_worker_classes(module: str) -> None:
    """It runs in a new process, because importing the hooks sets an environment variable."""
    output = python(
        """
        import sys
        from types import SimpleNamespace
        from flask import Flask
        from web_prom.gunicorn import post_worker_init
        warnings = []
        worker = type("Worker", (), {"__module__": sys.argv[1]})()
        worker.wsgi = application = Flask("shop")
        worker.log = SimpleNamespace(warning=lambda message, *values: warnings.append(message % values))
        post_worker_init(worker)
        assert worker.wsgi is application
        assert "web_prom" not in application.extensions
        print(*warnings, sep="\\n")
        """,
        module,
        PROM_INSTRUMENT="1",
    )
    assert output == "PROM_INSTRUMENT: <Flask 'shop'> of Worker is not measured\n"


@pytest.mark.parametrize("around", ["", "static files", "layer", "router"])
@pytest.mark.parametrize("asgi", [False, True], ids=["WSGI", "ASGI"])
def test_fault_86_instrument_creates_django_middlewares_once(around: str, asgi: bool) -> None:
    shown = python(
        """
        import asyncio, sys
        from django.conf import settings
        from django.http import HttpResponse
        from django.urls import path

        around, asgi = sys.argv[1], sys.argv[2] == "True"
        made = []

        class Once:
            def __init__(self, get_response):
                made.append(self)
                self.get_response = get_response

            def __call__(self, request):
                return self.get_response(request)

            def process_exception(self, request, error):
                return HttpResponse(status=503)

        def error(request):
            raise RuntimeError

        urlpatterns = [path("error", error)]
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="x", ROOT_URLCONF=__name__, STATIC_URL="/static/",
                           MIDDLEWARE=[f"{__name__}.Once"], INSTALLED_APPS=["django.contrib.staticfiles"])

        from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler, StaticFilesHandler
        from django.core.asgi import get_asgi_application
        from django.core.wsgi import get_wsgi_application
        from prometheus_client import REGISTRY, generate_latest
        from web_prom.instrumentation import instrument
        from tests.web_prom.support import serve

        class Layer:
            def __init__(self, app):
                self.app = app

            def __call__(self, *args):
                return self.app(*args)

        class Router:
            def __init__(self, http):
                self.application_mapping = {"http": http}

            def __call__(self, *args):
                return self.application_mapping["http"](*args)

        application = get_asgi_application() if asgi else get_wsgi_application()
        if around == "static files":
            application = (ASGIStaticFilesHandler if asgi else StaticFilesHandler)(application)
        elif around == "layer":
            application = Layer(application)
        elif around == "router":
            application = Router(application)
        served = instrument(application, asgi=asgi)

        def ask(path):
            if not asgi:
                return serve(served, path)
            scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
            messages = [{"type": "http.request", "body": b""}]

            async def receive():
                while not messages:
                    await asyncio.sleep(60)
                return messages.pop()

            async def send(message):
                pass

            asyncio.run(served(scope, receive, send))

        ask("/error")
        ask("/nothing")
        if around == "static files":
            ask("/static/none")
        print(len(made))
        for line in generate_latest(REGISTRY).decode().splitlines():
            if line.startswith(("http_requests_total", "http_request_exceptions_total")):
                print(line)
        """,
        around,
        str(asgi),
    )
    not_found = "2.0" if around == "static files" else "1.0"
    assert sorted(shown.splitlines()) == [
        "1",
        'http_request_exceptions_total{exception="RuntimeError",method="GET",route="/error"} 1.0',
        'http_requests_total{method="GET",route="/error",status="503"} 1.0',
        f'http_requests_total{{method="GET",route="_unmatched",status="404"}} {not_found}',
    ]
