"""Flask requests from start to end: times, statuses, exceptions and bodies."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from flask import Flask, Response, abort, redirect, request, send_file, stream_with_context
from webtest import TestApp
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import EnvironBuilder, run_wsgi_app

import web_prom.metrics.recording
from flask_prom import FlaskProm
from tests.flask_prom.conftest import MakeApp, Metrics


class Clock:
    """A clock that only moves when a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of the recordings."""
    clock = Clock()
    monkeypatch.setattr(web_prom.metrics.recording, "perf_counter", clock)
    return clock


def test_view_is_counted_and_timed(make_app: MakeApp, metrics: Metrics, clock: Clock) -> None:
    """The values are read from the text of a scrape."""
    app = make_app()

    @app.get("/users/<int:user>")
    def user(user: int) -> str:
        clock.sleep(0.2)
        return "hi"

    client = app.test_client()
    assert client.get("/users/1").text == client.get("/users/2").text == "hi"
    text = client.get("/metrics").text
    assert 'http_requests_total{method="GET",route="/users/<int:user>",status="200"} 2.0' in text
    assert metrics.seconds("/users/<int:user>") == pytest.approx(0.4)
    assert metrics.in_progress == 0


def test_fault_01_duration_includes_the_whole_stream(
    make_app: MakeApp, metrics: Metrics, clock: Clock
) -> None:
    """A streamed body of 0.3 s has a duration of 0.3 s, and is in progress until it ends."""
    app = make_app()

    @app.get("/stream")
    def stream() -> Response:
        def body() -> Iterator[str]:
            for word in "abc":
                clock.sleep(0.1)
                yield word

        return Response(stream_with_context(body()))

    response = app.test_client().get("/stream")
    assert metrics.in_progress == 1
    assert response.text == "abc"
    assert metrics.seconds("/stream") == pytest.approx(0.3)
    assert metrics.in_progress == 0


def test_fault_02_exception_during_a_stream_keeps_the_sent_status(
    make_app: MakeApp, metrics: Metrics
) -> None:
    """The exception is counted too."""
    app = make_app()

    @app.get("/stream")
    def stream() -> Response:
        def body() -> Iterator[str]:
            yield "a"
            raise LookupError("not found")

        return Response(body())

    with pytest.raises(LookupError):
        _ = app.test_client().get("/stream").data
    assert metrics.requests == {("GET", "/stream", "200"): 1}
    assert metrics.exceptions == {("GET", "/stream", "LookupError"): 1}
    assert metrics.in_progress == 0


def test_fault_02_disconnect_during_a_stream_keeps_the_sent_status(
    make_app: MakeApp, metrics: Metrics
) -> None:
    """The server closes a body that it did not read to the end. No exception is counted."""
    app = make_app()

    @app.get("/stream")
    def stream() -> Response:
        return Response(iter(["a"] * 1000))

    environ = EnvironBuilder("/stream").get_environ()
    body, _, _ = run_wsgi_app(app, environ)
    next(iter(body))
    body.close()  # type: ignore[attr-defined]
    assert metrics.requests == {("GET", "/stream", "200"): 1}
    assert metrics.exceptions == {}
    assert metrics.in_progress == 0


def test_fault_03_exception_of_a_view_is_counted_once(make_app: MakeApp, metrics: Metrics) -> None:
    """One request, one duration and one exception are counted."""
    app = make_app()

    @app.get("/boom")
    def boom() -> str:
        raise ZeroDivisionError

    assert app.test_client().get("/boom").status_code == 500
    assert metrics.requests == {("GET", "/boom", "500"): 1}
    assert metrics.timed("/boom") == 1
    assert metrics.exceptions == {("GET", "/boom", "ZeroDivisionError"): 1}


def test_propagated_exception_is_counted_with_status_500(make_app: MakeApp, metrics: Metrics) -> None:
    """In testing and debug mode Flask raises the exception, and the server answers 500."""
    app = make_app()
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.get("/boom")
    def boom() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/boom")
    assert metrics.requests == {("GET", "/boom", "500"): 1}
    assert metrics.exceptions == {("GET", "/boom", "ZeroDivisionError"): 1}
    assert metrics.in_progress == 0


def test_fault_04_response_of_before_request_is_counted(
    make_app: MakeApp, metrics: Metrics, clock: Clock
) -> None:
    """It has the route and includes the time of earlier hooks."""
    app = make_app()

    @app.before_request
    def slow() -> None:
        clock.sleep(0.25)

    @app.before_request
    def answer() -> tuple[str, int]:
        return "no", 403

    @app.get("/private/<name>")
    def private(name: str) -> str:
        return name

    assert app.test_client().get("/private/x").status_code == 403
    assert metrics.requests == {("GET", "/private/<name>", "403"): 1}
    assert metrics.seconds("/private/<name>") == pytest.approx(0.25)


def test_fault_05_status_is_the_one_that_was_sent(make_app: MakeApp, metrics: Metrics) -> None:
    """It may be changed by after_request functions, which may be registered before or after set-up."""
    app = make_app()

    @app.after_request
    def teapot(response: Response) -> Response:
        response.status_code = 418
        return response

    @app.get("/")
    def index() -> str:
        return ""

    assert app.test_client().get("/").status_code == 418
    assert metrics.requests == {("GET", "/", "418"): 1}


@pytest.mark.parametrize("handled", [Exception, ValueError, 500])
def test_fault_06_handled_exception_is_counted(make_app: MakeApp, metrics: Metrics, handled: Any) -> None:
    """It is counted if the response is a server error."""
    app = make_app()

    @app.errorhandler(handled)
    def bad_gateway(error: Exception) -> tuple[str, int]:
        return "upstream", 502

    @app.get("/boom")
    def boom() -> str:
        raise ValueError

    assert app.test_client().get("/boom").status_code == 502
    assert metrics.requests == {("GET", "/boom", "502"): 1}
    assert metrics.timed("/boom") == 1
    assert metrics.exceptions == {("GET", "/boom", "ValueError"): 1}


def test_exception_that_becomes_a_client_error_is_not_counted(make_app: MakeApp, metrics: Metrics) -> None:
    """A ValueError that is answered with 400 is handled, and so is a 404."""
    app = make_app()

    @app.errorhandler(ValueError)
    def bad_request(error: Exception) -> tuple[str, int]:
        return "bad", 400

    @app.get("/bad")
    def bad() -> str:
        raise ValueError

    @app.get("/missing")
    def missing() -> str:
        abort(404)

    client = app.test_client()
    client.get("/bad")
    client.get("/missing")
    assert metrics.requests == {("GET", "/bad", "400"): 1, ("GET", "/missing", "404"): 1}
    assert metrics.exceptions == {}


def test_exception_of_an_error_handler_is_counted(make_app: MakeApp, metrics: Metrics) -> None:
    """Both exceptions caused the 500, and both are counted."""
    app = make_app()

    @app.errorhandler(ValueError)
    def worse(error: Exception) -> str:
        raise KeyError

    @app.get("/boom")
    def boom() -> str:
        raise ValueError

    assert app.test_client().get("/boom").status_code == 500
    assert metrics.exceptions == {("GET", "/boom", "ValueError"): 1, ("GET", "/boom", "KeyError"): 1}


def test_exception_of_after_request_is_counted(make_app: MakeApp, metrics: Metrics) -> None:
    """Flask then sends no request_finished. The status is read from start_response."""
    app = make_app(extra_labels={"answer": lambda request, response: response and response.status_code})

    @app.after_request
    def fail(response: Response) -> Response:
        raise RuntimeError

    @app.get("/")
    def index() -> str:
        return ""

    assert app.test_client().get("/").status_code == 500
    assert metrics("http_requests_total", method="GET", route="/", status="500", answer="None") == 1
    assert metrics.by_labels("http_request_exceptions_total", "exception") == {("RuntimeError",): 1}


def test_fault_07_send_file_uses_the_sendfile_of_the_server(make_app: MakeApp, metrics: Metrics) -> None:
    """The server gets the object that its wsgi.file_wrapper returned. Its close() finishes the request."""
    app = make_app(response_size=True)

    @app.get("/file")
    def file() -> Response:
        return send_file(io.BytesIO(b"x" * 5000), mimetype="text/plain")

    environ = EnvironBuilder("/file").get_environ()
    environ["wsgi.file_wrapper"] = FileWrapper
    body, status, _ = run_wsgi_app_raw(app, environ)
    assert type(body) is FileWrapper
    assert status == "200 OK"
    assert metrics.in_progress == 1
    body.close()
    assert metrics.requests == {("GET", "/file", "200"): 1}
    assert metrics("http_response_size_bytes_sum", method="GET", route="/file") == 5000
    assert metrics.in_progress == 0


def test_fault_07_direct_passthrough_finishes_at_the_end(make_app: MakeApp, metrics: Metrics) -> None:
    """Werkzeug does not call call_on_close functions for such a response."""
    app = make_app()

    @app.get("/raw")
    def raw() -> Response:
        return Response(iter([b"a", b"b"]), direct_passthrough=True)

    assert TestApp(app).get("/raw").body == b"ab"
    assert metrics.requests == {("GET", "/raw", "200"): 1}
    assert metrics.in_progress == 0


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 200)])
def test_fault_08_empty_body_finishes_the_request_once(
    make_app: MakeApp, metrics: Metrics, method: str, status: int
) -> None:
    """HEAD, 204, 304 and an empty 200."""
    app = make_app()

    @app.get("/")
    def index() -> Response:
        return Response(status=status)

    app.test_client().open("/", method=method)
    assert metrics.requests == {(method, "/", str(status)): 1}
    assert metrics.in_progress == 0


def test_request_of_a_test_client_that_does_not_close_is_counted(make_app: MakeApp, metrics: Metrics) -> None:
    """The request is finished when the whole body was returned."""
    app = make_app()

    @app.get("/")
    def index() -> str:
        return "whole"

    responses = [app.test_client().get("/") for _ in range(3)]
    assert metrics.requests == {("GET", "/", "200"): 3}
    assert [response.text for response in responses] == ["whole"] * 3
    assert metrics.requests == {("GET", "/", "200"): 3}


def test_fault_35_async_view_is_counted_and_timed(make_app: MakeApp, metrics: Metrics) -> None:
    """It also works for excluded views and for views that raise."""
    app = make_app()

    @app.get("/ok")
    async def ok() -> str:
        return "ok"

    @app.get("/health")
    @FlaskProm.exclude
    async def health() -> str:
        return "healthy"

    @app.get("/boom")
    async def boom() -> str:
        raise ValueError

    client = app.test_client()
    assert client.get("/ok").text == "ok"
    assert client.get("/health").text == "healthy"
    assert client.get("/boom").status_code == 500
    assert metrics.requests == {("GET", "/ok", "200"): 1, ("GET", "/boom", "500"): 1}
    assert metrics.exceptions == {("GET", "/boom", "ValueError"): 1}


def test_application_root_is_not_in_the_route(make_app: MakeApp, metrics: Metrics) -> None:
    """A prefix that the server removes is not part of the route. /metrics is below the prefix."""
    app = make_app()
    app.config["APPLICATION_ROOT"] = "/shop"

    @app.get("/items/")
    def items() -> str:
        return request.script_root

    client = app.test_client()
    assert client.get("/items/").text == "/shop"
    assert client.get("/items").status_code == 308
    assert client.get("/metrics").status_code == 200
    assert metrics.requests == {("GET", "/items/", "200"): 1, ("GET", "/items/", "308"): 1}


@pytest.mark.parametrize("wrap_first", [True, False])
def test_other_middleware_may_wrap_the_application(
    make_app: MakeApp, registry: Any, metrics: Metrics, wrap_first: bool
) -> None:
    """Inside or outside of PrometheusMiddleware, also with a copied environ and a delayed start_response."""

    class Delayed:
        def __init__(self, app: Any) -> None:
            self.app = app

        def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
            started: list[Any] = []
            body = self.app(dict(environ), lambda *args: started.append(args))
            start_response(*started[0])
            return body

    app = Flask("shop")

    @app.get("/users/<user>")
    def user(user: str) -> str:
        return user

    if wrap_first:
        app.wsgi_app = Delayed(ProxyFix(app.wsgi_app))  # type: ignore[method-assign]
    FlaskProm(app, registry=registry)
    if not wrap_first:
        app.wsgi_app = Delayed(ProxyFix(app.wsgi_app))  # type: ignore[method-assign]
    TestApp(app).get("/users/x")
    assert metrics.requests == {("GET", "/users/<user>", "200"): 1}


def test_application_that_a_view_calls_is_counted(make_app: MakeApp, metrics: Metrics) -> None:
    """Each application counts its request with its own route."""
    inner, outer = make_app("inner"), make_app("outer")

    @inner.get("/in")
    def inside() -> tuple[str, int]:
        return "in", 201

    @outer.get("/out")
    def outside() -> str:
        return inner.test_client().get("/in").text

    assert outer.test_client().get("/out").text == "in"
    assert metrics.requests == {("GET", "/in", "201"): 1, ("GET", "/out", "200"): 1}


def test_redirect_of_a_view_has_the_route_of_the_view(make_app: MakeApp, metrics: Metrics) -> None:
    """A 302 of a view is counted under the route of the view."""
    app = make_app()

    @app.get("/old")
    def old() -> Any:
        return redirect("/new")

    app.test_client().get("/old")
    assert metrics.requests == {("GET", "/old", "302"): 1}


def test_exception_of_a_teardown_is_counted(make_app: MakeApp, metrics: Metrics) -> None:
    """It raises after start_response but before the body is sent, so the server answers 500."""
    app = make_app()

    @app.teardown_request
    def fail(error: BaseException | None) -> None:
        raise RuntimeError

    @app.get("/")
    def index() -> str:
        return ""

    with pytest.raises(RuntimeError):
        app.test_client().get("/")
    assert metrics.requests == {("GET", "/", "500"): 1}
    assert metrics.exceptions == {("GET", "/", "RuntimeError"): 1}


def run_wsgi_app_raw(app: Any, environ: dict[str, Any]) -> tuple[Any, str, Any]:
    """Call a WSGI application and return its body unread."""
    started: list[Any] = []
    body = app(environ, lambda status, headers, exc_info=None: started.append((status, headers)))
    return body, *started[0]
