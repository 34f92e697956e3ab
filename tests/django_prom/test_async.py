"""The same truths under ASGI, by a real handler, and without a change of thread."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import django
import pytest
from asgiref.sync import AsyncToSync, SyncToAsync
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.test import AsyncClient, override_settings
from prometheus_client import CollectorRegistry

from django_prom import conf
from django_prom.middleware import PrometheusMiddleware
from tests.web_prom.support import Clock, errors, exceptions, in_progress, requests, samples, seconds
from web_prom import asgi
from web_prom.metrics.recording import RECORDING_KEY, Recording

from . import views
from .conftest import configured

HERE = "tests.django_prom.middleware"
OURS = "django_prom.middleware.PrometheusMiddleware"

# Before, Django does not look for a client that went away.
hears_disconnects = pytest.mark.skipif(django.VERSION < (5, 0), reason="Django 4.2 does not hear of it")


class ASGISite:
    """The project behind an ASGI server. One request at a time."""

    def __init__(self) -> None:
        self._app: Any = None
        self.status: str | None = None
        self.sent: list[bytes] = []
        self.headers: dict[str, str] = {}

    def __call__(self, path: str, method: str = "GET", **options: Any) -> str | None:
        """Serve one request in a loop of its own; return the status, or None if none was sent."""
        asyncio.run(self.serve(path, method, **options))
        return self.status

    async def serve(
        self,
        path: str,
        method: str = "GET",
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        send: Callable[[Any], Awaitable[None]] | None = None,
        hang_up: asyncio.Event | None = None,
    ) -> None:
        """Serve one request.

        Args:
            path: Its path.
            method: Its method.
            body: Its body.
            headers: Its headers, beside the host.
            send: Called with each message, beside being kept.
            hang_up: When set, the client goes away.
        """
        if self._app is None:
            self._app = get_asgi_application()
        self.status, self.sent = None, []
        fields = {"host": "testserver", **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
        }
        arrived = False

        async def receive() -> dict[str, Any]:
            nonlocal arrived
            if not arrived:
                arrived = True
                return {"type": "http.request", "body": body, "more_body": False}
            await (hang_up or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def keep(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.status = str(message["status"])
                self.headers = {
                    name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]
                }
            else:
                self.sent.append(message.get("body", b""))
            if send is not None:
                await send(message)

        await self._app(scope, receive, keep)

    @property
    def text(self) -> str:
        """What was sent last."""
        return b"".join(self.sent).decode()


@pytest.fixture
def site() -> ASGISite:
    """Return the project behind a server of the test's own."""
    return ASGISite()


def test_async_and_sync_views_are_counted(site: ASGISite, registry: CollectorRegistry, clock: Clock) -> None:
    """With the time that they took."""
    views.hooks["view"] = lambda request: clock.go(0.2)
    assert site("/async/") == site("/users/1/") == "200"
    assert site.text == "hello"
    assert requests(registry) == {("GET", "/async/", "200"): 1, ("GET", "/users/<int:pk>/", "200"): 1}
    assert seconds(registry) == pytest.approx(0.4)
    assert in_progress(registry) == 0


def test_the_recording_is_in_the_scope(site: ASGISite, registry: CollectorRegistry) -> None:
    """Where an ASGI middleware around Django would look for it, and put its own."""
    from django.test import AsyncRequestFactory

    seen: list[bool] = []
    views.hooks["view"] = lambda request: seen.append(
        request.scope[RECORDING_KEY] is request.META[RECORDING_KEY]
    )
    site("/async/")
    request = AsyncRequestFactory().get("/async/")
    instrumentation = conf.instrumentation()
    assert instrumentation is not None
    outer = request.scope[RECORDING_KEY] = Recording(instrumentation.recorder, "GET")
    asyncio.run(PrometheusMiddleware(views.async_hello)(request)).close()
    assert seen == [True, True]
    assert outer.route == "/async/"
    assert not outer.finished
    outer.finish()


def test_an_asgi_middleware_around_django_is_told_the_route_and_the_exceptions(
    site: ASGISite, registry: CollectorRegistry
) -> None:
    """It counts alone."""
    site._app = asgi.PrometheusMiddleware(get_asgi_application(), registry=registry)
    assert [site(path) for path in ("/async/", "/users/1/", "/fail/", "/nowhere/")] == [
        "200",
        "200",
        "500",
        "404",
    ]
    assert requests(registry) == {
        ("GET", "/async/", "200"): 1,
        ("GET", "/users/<int:pk>/", "200"): 1,
        ("GET", "/fail/", "500"): 1,
        ("GET", "_unmatched", "404"): 1,
    }
    assert list(exceptions(registry).values()) == [1]
    assert in_progress(registry) == 0
    assert errors(registry) == {}


def test_time_before_the_middleware_counts(site: ASGISite, registry: CollectorRegistry, clock: Clock) -> None:
    """The clock starts with the signal."""
    from django.core.signals import request_started

    def reconnect(**_: Any) -> None:
        clock.go(0.5)

    request_started.connect(reconnect)
    try:
        site("/async/")
    finally:
        request_started.disconnect(reconnect)
    assert seconds(registry) == pytest.approx(0.5)


def test_the_middleware_is_one_class_for_both_worlds() -> None:
    """Django asks which kind an instance is."""

    async def get_response(request: Any) -> None:
        raise NotImplementedError

    from asgiref.sync import iscoroutinefunction

    assert PrometheusMiddleware.sync_capable
    assert PrometheusMiddleware.async_capable
    assert iscoroutinefunction(PrometheusMiddleware(get_response))
    assert not iscoroutinefunction(PrometheusMiddleware(lambda request: None))
    assert not hasattr(PrometheusMiddleware, "process_view")


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each call from the loop to a thread, or from a thread to the loop."""
    made: list[str] = []
    to_thread, to_loop = SyncToAsync.__call__, AsyncToSync.__call__

    async def call_thread(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(f"to a thread: {getattr(self.func, '__qualname__', '?')}")
        return await to_thread(self, *args, **kwargs)

    def call_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append("to the loop")
        return to_loop(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", call_thread)
    monkeypatch.setattr(AsyncToSync, "__call__", call_loop)
    return made


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("path", ["/async/", "/users/1/", "/async-stream/", "/fail/"])
def test_fault_35_no_request_takes_another_thread_for_us(
    path: str, sized: bool, site: ASGISite, registry: CollectorRegistry, hops: list[str]
) -> None:
    """Each goes to threads as often as without us, and back; an async view runs in the loop's own."""

    def tell(_: Any) -> None:
        hops.append(f"the view, in the loop's: {threading.current_thread() is threading.main_thread()}")

    views.hooks["view"] = tell
    with override_settings(PROM_REQUEST_SIZE=sized, PROM_RESPONSE_SIZE=sized):
        site(path)
    with_us = list(hops)
    hops.clear()
    with override_settings(PROM_INSTALL_MIDDLEWARE=False):
        ASGISite()(path)
    assert with_us == hops
    assert any(hop.startswith("to a thread") for hop in with_us)  # Django's own signals
    if path == "/async/":
        assert "the view, in the loop's: True" in with_us
    assert sum(requests(registry).values()) == 1


@configured(MIDDLEWARE=[f"{HERE}.plain"])
def test_middleware_that_is_not_async_is_no_obstacle(site: ASGISite, registry: CollectorRegistry) -> None:
    """Django then runs ours in a thread too."""
    assert site("/async/") == "200"
    assert site("/async-fail/") == "500"
    assert requests(registry) == {("GET", "/async/", "200"): 1, ("GET", "/async-fail/", "500"): 1}
    assert exceptions(registry) == {("/async-fail/", "ValueError"): 1}


@pytest.mark.parametrize("path", ["/async-fail/", "/fail/", "/rendered/"])
def test_exceptions_are_counted_once(path: str, site: ASGISite, registry: CollectorRegistry) -> None:
    """The signal is sent from another thread."""
    assert site(path) == "500"
    assert requests(registry) == {("GET", path, "500"): 1}
    assert sum(exceptions(registry).values()) == 1


@configured(MIDDLEWARE=[f"{HERE}.BadGateway"])
def test_fault_06_exceptions_that_middleware_answers(site: ASGISite, registry: CollectorRegistry) -> None:
    """The watcher is asked before it."""
    assert site("/async-fail/") == "502"
    assert requests(registry) == {("GET", "/async-fail/", "502"): 1}
    assert exceptions(registry) == {("/async-fail/", "ValueError"): 1}


def test_fault_01_an_async_stream_is_timed_to_its_end(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """The time between its chunks is the request's."""
    views.hooks["between"] = lambda: clock.go(0.3)
    assert site("/async-stream/") == "200"
    assert site.text == "one,two"
    assert seconds(registry) == pytest.approx(0.3)
    assert requests(registry) == {("GET", "/async-stream/", "200"): 1}
    assert in_progress(registry) == 0


def test_fault_01_a_sync_stream_is_timed_to_the_last_byte(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """Django reads it whole before it sends any of it: the end of the iteration is not the request's."""

    async def slowly(message: dict[str, Any]) -> None:
        clock.go(1)

    with pytest.warns(Warning, match="must consume synchronous iterators"):
        asyncio.run(site.serve("/stream/", send=slowly))
    assert site.text == "one,zwölf"
    assert seconds(registry) == pytest.approx(len(site.sent) + 1)
    assert requests(registry) == {("GET", "/stream/", "200"): 1}


def test_fault_02_a_body_that_raises_is_finished_there(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """Neither close() nor request_finished tells of its end."""

    def fail() -> None:
        clock.go(0.1)
        raise KeyError

    views.hooks["between"] = fail
    with pytest.raises(KeyError):
        site("/async-stream/")
    assert requests(registry) == {("GET", "/async-stream/", "200"): 1}
    assert exceptions(registry) == {("/async-stream/", "KeyError"): 1}
    assert seconds(registry) == pytest.approx(0.1)
    assert in_progress(registry) == 0


@pytest.mark.parametrize("path", ["/async-stream/", "/stream/", "/broken-file/"])
def test_fault_02_a_body_that_raises_at_once_keeps_its_status(
    path: str, site: ASGISite, registry: CollectorRegistry
) -> None:
    """An ASGI server has the status before the body is asked for."""

    def fail() -> None:
        raise OSError

    views.hooks["start"] = fail
    with _warning_of_sync_body(path), pytest.raises(OSError):  # noqa: PT011
        site(path)
    assert site.status == "200"
    assert requests(registry) == {("GET", path, "200"): 1}
    assert exceptions(registry) == {(path, "OSError"): 1}
    assert in_progress(registry) == 0


def _warning_of_sync_body(path: str) -> Any:
    if path == "/async-stream/":
        return contextlib.nullcontext()
    return pytest.warns(Warning, match="must consume synchronous iterators")


@hears_disconnects
def test_fault_02_a_client_that_hangs_up_before_the_response_is_499(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """The request is cancelled; that is no exception of the view's."""

    async def run() -> None:
        hang_up = asyncio.Event()

        async def wait(request: Any = None) -> None:
            clock.go(2)
            hang_up.set()
            await asyncio.Event().wait()

        views.hooks["view"] = wait
        await site.serve("/async/", hang_up=hang_up)

    asyncio.run(run())
    assert site.status is None
    assert requests(registry) == {("GET", "/async/", "499"): 1}
    assert exceptions(registry) == {}
    assert seconds(registry) == pytest.approx(2)
    assert in_progress(registry) == 0


@hears_disconnects
def test_a_client_that_hangs_up_before_sync_middleware_is_499(
    site: ASGISite, registry: CollectorRegistry
) -> None:
    """The cancellation passes through the thread that Django runs it in."""

    async def run() -> None:
        hang_up = asyncio.Event()

        async def wait(request: Any = None) -> None:
            loop.call_soon_threadsafe(hang_up.set)
            await asyncio.Event().wait()

        loop = asyncio.get_running_loop()
        views.hooks["view"] = wait
        await site.serve("/async/", hang_up=hang_up)

    with override_settings(MIDDLEWARE=[f"{HERE}.plain"]):
        asyncio.run(run())
    assert site.status is None
    assert requests(registry) == {("GET", "/async/", "499"): 1}
    assert in_progress(registry) == 0


@hears_disconnects
def test_fault_02_a_client_that_hangs_up_in_the_body_keeps_its_status(
    site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """It got it."""

    async def run() -> None:
        hang_up = asyncio.Event()

        async def wait() -> None:
            clock.go(2)
            hang_up.set()
            await asyncio.Event().wait()

        views.hooks["between"] = wait
        await site.serve("/async-stream/", hang_up=hang_up)

    asyncio.run(run())
    assert requests(registry) == {("GET", "/async-stream/", "200"): 1}
    assert exceptions(registry) == {}
    assert seconds(registry) == pytest.approx(2)
    assert in_progress(registry) == 0


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task tells of its cancellation from 3.11 on")
def test_a_cancellation_of_the_applications_own_is_its_error(
    site: ASGISite, registry: CollectorRegistry
) -> None:
    """Nobody hung up: the view awaited a task that something else had cancelled."""

    async def wait_for_cancelled(request: Any) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    views.hooks["view"] = wait_for_cancelled
    with pytest.raises(asyncio.CancelledError):
        site("/async/")
    assert requests(registry) == {("GET", "/async/", "500"): 1}
    assert exceptions(registry) == {("/async/", "CancelledError"): 1}


@pytest.mark.parametrize("path", ["/users/1/", "/async-stream/"])
def test_a_response_that_cannot_be_sent(
    path: str, site: ASGISite, registry: CollectorRegistry, clock: Clock
) -> None:
    """Django does not close it then; it is finished as it goes away."""

    async def broken(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            clock.go(1)
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError) as raised:
        asyncio.run(site.serve(path, send=broken))
    del raised
    gc.collect()  # Django's exception and its group refer to each other
    site("/metrics")
    assert [labels[2] for labels in requests(registry)] == ["200"]
    assert in_progress(registry) == 0
    assert seconds(registry) == pytest.approx(1)


def test_async_bodies_are_not_changed(site: ASGISite) -> None:
    """What a middleware of the user's may ask of a response stays as it was."""
    from django.http import StreamingHttpResponse

    async def view(request: Any) -> Any:
        return await views.async_stream(request)

    response = asyncio.run(PrometheusMiddleware(view)(_request()))
    assert isinstance(response, StreamingHttpResponse)
    assert response.is_async
    assert inspect.isasyncgen(response.streaming_content)
    response.close()


def _request() -> Any:
    from django.test import AsyncRequestFactory

    return AsyncRequestFactory().get("/async-stream/")


def test_the_async_client_is_measured(registry: CollectorRegistry) -> None:
    """Django's own, whose body is no file."""

    async def run() -> None:
        client = AsyncClient()
        assert (await client.post("/post/", {"a": "b"})).content == b"a"
        response = await client.get("/async-stream/")
        assert [chunk async for chunk in response.streaming_content] == [b"one,", b"two"]
        assert (await client.get("/metrics")).status_code == 200

    with override_settings(PROM_REQUEST_SIZE=True, PROM_RESPONSE_SIZE=True):
        asyncio.run(run())
    assert requests(registry) == {("POST", "/post/", "200"): 1, ("GET", "/async-stream/", "200"): 1}
    sizes = samples(registry, "http_response_size_bytes_sum", "route")
    assert sizes == {("/post/",): 1, ("/async-stream/",): 7}
    assert errors(registry) == {}


@configured(PROM_REQUEST_SIZE=True, PROM_RESPONSE_SIZE=True, PROM_FIRST_BYTE=True)
def test_bytes_and_first_byte(site: ASGISite, registry: CollectorRegistry, clock: Clock) -> None:
    """Django reads the whole body before anybody is called; bytes are the body's, not the message's."""
    views.hooks["start"] = lambda: clock.go(0.1)
    views.hooks["between"] = lambda: clock.go(0.1)
    site("/async-stream/", "POST", body=b"x" * 3000)
    site("/read/", "POST", body=b"x" * 3000)
    assert samples(registry, "http_request_size_bytes_sum", "route") == {
        ("/async-stream/",): 3000,
        ("/read/",): 3000,
    }
    assert samples(registry, "http_response_size_bytes_sum", "route") == {
        ("/async-stream/",): 7,
        ("/read/",): 10,
    }
    assert samples(registry, "http_response_first_byte_seconds_sum", "route")[
        ("/async-stream/",)
    ] == pytest.approx(0.1)


@configured(PROM_QUEUE_TIME=True)
def test_queue_time_is_measured(site: ASGISite, registry: CollectorRegistry) -> None:
    """The header is the same."""
    import time

    site("/async/", headers={"x-request-start": f"t={time.time() - 2}"})
    assert registry.get_sample_value("http_request_queue_seconds_count") == 1


@configured(MIDDLEWARE=[f"{HERE}.login"])
def test_fault_18_a_scrape_passes_by_the_login(site: ASGISite, registry: CollectorRegistry) -> None:
    """And by the host check; it is not counted."""
    assert site("/metrics", headers={"host": "10.1.2.3", "accept-encoding": "gzip"}) == "200"
    assert site.headers["content-encoding"] == "gzip"
    assert site("/users/1/") == "302"
    assert requests(registry) == {("GET", "/users/<int:pk>/", "302"): 1}


def test_one_process_is_not_told_of_many(
    site: ASGISite, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django says of each ASGI server that it has several."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert site("/metrics") == "200"
    assert [record.message for record in caplog.records if record.name == "web_prom"] == []


def test_a_scrape_leaves_the_loop_free(site: ASGISite, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a thread: the loop goes on meanwhile."""
    from django_prom import conf

    scraping, go_on = threading.Event(), threading.Event()
    respond = conf.exposition().respond

    def wait(environ: Any) -> Any:
        scraping.set()
        assert go_on.wait(10)
        return respond(environ)

    monkeypatch.setattr(conf.exposition(), "respond", wait)

    async def run() -> None:
        scrape = asyncio.ensure_future(ASGISite().serve("/metrics"))
        while not scraping.is_set():
            await asyncio.sleep(0)
        await site.serve("/async/")
        assert site.status == "200"
        assert not scrape.done()
        go_on.set()
        await scrape

    asyncio.run(run())


@configured(MIDDLEWARE=[f"{HERE}.replacing", OURS])
def test_placed_lower_a_replaced_response_is_finished(site: ASGISite, registry: CollectorRegistry) -> None:
    """By the end of the request; in Django 5, which answers in a task of its own, by the next scrape."""
    assert site("/async/") == "200"
    gc.collect()
    assert site("/metrics") == "200"
    assert requests(registry) == {("GET", "/async/", "200"): 1}
    assert in_progress(registry) == 0


def test_a_communicator_of_asgiref_is_answered(registry: CollectorRegistry) -> None:
    """What others test ASGI applications with."""

    async def run() -> None:
        communicator: Any = ApplicationCommunicator(  # type: ignore[no-untyped-call]
            get_asgi_application(),
            {"type": "http", "method": "GET", "path": "/async/", "headers": [(b"host", b"testserver")]},
        )
        await communicator.send_input({"type": "http.request"})
        start = await communicator.receive_output()
        body = await communicator.receive_output()
        assert (start["status"], body["body"]) == (200, b"hello")
        await communicator.wait()

    asyncio.run(run())
    assert requests(registry) == {("GET", "/async/", "200"): 1}


@configured(PROM_NAMING="opentelemetry")
def test_the_names_may_be_those_of_opentelemetry(site: ASGISite, registry: CollectorRegistry) -> None:
    """Under ASGI the scope tells how a request begins."""
    site("/users/7/", "POST")
    site("/fail/")
    site("/nowhere/")
    labels = ("http_request_method", "url_scheme", "network_protocol_version", "http_route", "error_type")
    assert samples(registry, "http_server_request_duration_seconds_count", *labels) == {
        ("POST", "http", "1.1", "/users/<int:pk>/", ""): 1,
        ("GET", "http", "1.1", "/fail/", "ValueError"): 1,
        ("GET", "http", "1.1", "", ""): 1,
    }
    gauge = ("http_request_method", "url_scheme")
    assert set(samples(registry, "http_server_active_requests", *gauge).values()) == {0}
    assert errors(registry) == {}
