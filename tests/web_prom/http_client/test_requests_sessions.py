"""requests: each request that a session sends is counted once, and nothing else changes."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
import traceback
from typing import Any

import pytest
import requests
import requests_mock
import responses
from prometheus_client import CollectorRegistry
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3.util.retry import Retry

from tests.web_prom.http_client.support import (
    Server,
    answered,
    calls,
    counted,
    free_port,
    seconds,
    total,
)
from web_prom.http_client import instrument, patches, uninstrument

# Python 3.10 does not let an exception handler remove its own frame.
TRACEBACKS_KEEP_FRAMES = sys.version_info < (3, 11)

pytestmark = pytest.mark.usefixtures("measured")


def test_send_counts_each_request_with_its_labels(registry: CollectorRegistry, server: Server) -> None:
    requests.get(f"{server.url}/ok?secret=1", auth=("user", "password"))
    requests.post(f"{server.url}/status/201", data=b"x")
    requests.get(f"{server.url}/status/404")
    requests.get(f"{server.url}/status/500")
    assert calls(registry) == {
        ("GET", "127.0.0.1", "200", ""): 1,
        ("POST", "127.0.0.1", "201", ""): 1,
        ("GET", "127.0.0.1", "404", "404"): 1,
        ("GET", "127.0.0.1", "500", "500"): 1,
    }


def test_redirects_are_counted_each(registry: CollectorRegistry, server: Server) -> None:
    response = requests.get(f"{server.url}/redirect/3")
    assert len(response.history) == 3
    assert counted(registry) == answered(server) == {("GET", "302"): 3, ("GET", "200"): 1}


def test_redirects_that_are_not_followed_are_counted_once(
    registry: CollectorRegistry, server: Server
) -> None:
    session = requests.Session()
    response = session.get(f"{server.url}/redirect/3", allow_redirects=False)
    assert counted(registry) == answered(server) == {("GET", "302"): 1}
    assert response.next is not None
    session.send(response.next, allow_redirects=False)
    assert counted(registry) == answered(server) == {("GET", "302"): 2}


def test_too_many_redirects_is_raised_and_each_is_counted(
    registry: CollectorRegistry, server: Server
) -> None:
    session = requests.Session()
    session.max_redirects = 2
    with pytest.raises(requests.TooManyRedirects):
        session.get(f"{server.url}/redirect/9")
    assert counted(registry) == answered(server) == {("GET", "302"): 3}
    assert total(registry) == 3


def test_retries_are_counted_each(registry: CollectorRegistry, server: Server) -> None:
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(5, status_forcelist=[503], backoff_factor=0)))
    assert session.get(f"{server.url}/flaky/3").status_code == 200
    assert counted(registry) == answered(server) == {("GET", "503"): 3, ("GET", "200"): 1}


def test_retries_of_refused_connections_have_the_name_of_the_exception(registry: CollectorRegistry) -> None:
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(2, backoff_factor=0)))
    with pytest.raises(requests.ConnectionError):
        session.get(f"http://127.0.0.1:{free_port()}/")
    assert calls(registry) == {("GET", "127.0.0.1", "", "ConnectionError"): 3}


def test_digest_authentication_counts_both_requests(registry: CollectorRegistry, server: Server) -> None:
    response = requests.get(f"{server.url}/digest", auth=HTTPDigestAuth("user", "password"))
    assert response.status_code == 200
    assert counted(registry) == answered(server) == {("GET", "401"): 1, ("GET", "200"): 1}


@pytest.mark.parametrize(
    ("path", "timeout", "error"),
    [("/wait", 0.05, requests.ReadTimeout), ("/drop", None, requests.ConnectionError)],
)
def test_exceptions_are_counted_by_the_class_that_is_raised(
    registry: CollectorRegistry, server: Server, path: str, timeout: Any, error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        requests.get(server.url + path, timeout=timeout)
    assert type(raised.value) is error
    assert calls(registry) == {("GET", "127.0.0.1", "", error.__name__): 1}


def test_exception_before_a_request_is_not_counted(registry: CollectorRegistry) -> None:
    with pytest.raises(requests.exceptions.InvalidSchema):
        requests.get("nothing://Example.COM/")
    with pytest.raises(OSError, match="CA certificate"):
        requests.get("https://127.0.0.1/", verify="/nothing")
    assert calls(registry) == {}


def test_exception_of_a_hook_passes_and_the_request_is_counted(
    registry: CollectorRegistry, server: Server
) -> None:
    def check(response: requests.Response, **_: Any) -> None:
        response.raise_for_status()

    with pytest.raises(requests.HTTPError):
        requests.get(f"{server.url}/status/503", hooks={"response": check})
    assert calls(registry) == {("GET", "127.0.0.1", "503", "503"): 1}


def test_streamed_response_is_timed_to_its_headers(registry: CollectorRegistry, server: Server) -> None:
    with requests.get(f"{server.url}/stream", stream=True) as response:
        assert total(registry) == 1
        before = seconds(registry)
        server.body.set()
        assert response.content == b"ok"
    assert (total(registry), seconds(registry)) == (1, before)


class Memory(BaseAdapter):
    """A transport that answers from memory: it redirects once."""

    def send(self, request: Any, **_: Any) -> requests.Response:  # type: ignore[override]
        if request.url.endswith("/error"):
            raise KeyError
        response = requests.Response()
        response.status_code = 200 if request.url.endswith("/end") else 302
        response.url, response.request = request.url, request
        response.headers["Location"] = (
            "fail://b/" if request.url.endswith("/fail") else "memory://a.example/end"
        )
        response._content = b""
        response.raw = type("Raw", (), {"read": None, "_original_response": None})()
        return response

    def close(self) -> None:
        """Do nothing."""


def test_transports_without_urllib3_are_measured(registry: CollectorRegistry) -> None:
    session = requests.Session()
    session.mount("memory://", Memory())
    assert session.get("memory://A.example/start").status_code == 200
    with pytest.raises(requests.exceptions.InvalidSchema):
        session.get("memory://a.example/fail")
    with pytest.raises(KeyError):
        session.get("memory://a.example/error")
    assert calls(registry) == {
        ("GET", "a.example", "302", ""): 2,
        ("GET", "a.example", "200", ""): 1,
        ("GET", "a.example", "", "KeyError"): 1,
    }


def test_requests_mock_works() -> None:
    """It replaces the adapters of the session, so nothing is counted."""
    with requests_mock.Mocker() as mock:
        mock.get("https://example.com/", text="mocked")
        mock.get("https://example.com/fail", exc=requests.ConnectTimeout)
        assert requests.get("https://example.com/").text == "mocked"
        with pytest.raises(requests.ConnectTimeout):
            requests.get("https://example.com/fail")


@responses.activate
def test_responses_works() -> None:
    """It replaces the adapter's method, so nothing reaches urllib3 and nothing is counted."""
    responses.get("https://example.com/", body="mocked", status=404)
    assert requests.get("https://example.com/").text == "mocked"


class Delegating(BaseAdapter):
    """An adapter that sends by another one."""

    def send(self, request: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        return HTTPAdapter().send(request, **kwargs)

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("explicit", [True, False])
def test_adapter_that_sends_by_another_one_is_counted_once(
    registry: CollectorRegistry, server: Server, explicit: bool
) -> None:
    session = requests.Session()
    session.mount("http://", Delegating())
    if explicit:
        instrument(session, registry=registry)
    session.get(f"{server.url}/redirect/1")
    assert counted(registry) == answered(server) == {("GET", "302"): 1, ("GET", "200"): 1}


@pytest.mark.parametrize("kind", [requests.Session, type("Shop", (requests.Session,), {})])
def test_request_that_a_hook_sends_with_another_session_is_not_that_of_the_session(
    server: Server, kind: Any
) -> None:
    own, of_other = CollectorRegistry(), CollectorRegistry()
    session, other, plain = requests.Session(), requests.Session(), kind()
    instrument(session, registry=own)
    instrument(other, registry=of_other)

    def hook(response: requests.Response, **_: Any) -> None:
        plain.get(f"{server.url}/status/201")
        other.get(
            f"{server.url}/status/202", hooks={"response": lambda *_, **__: plain.get(server.url) and None}
        )

    session.get(f"{server.url}/redirect/1", hooks={"response": hook})
    session.get(f"{server.url}/status/404")
    assert counted(own) == {("GET", "302"): 1, ("GET", "200"): 1, ("GET", "404"): 1}
    assert counted(of_other) == {("GET", "202"): 2}


def test_request_that_a_hook_sends_with_the_adapter_is_that_of_the_session(server: Server) -> None:
    own = CollectorRegistry()
    session = requests.Session()
    instrument(session, registry=own)
    session.get(f"{server.url}/digest", auth=HTTPDigestAuth("user", "password"))
    assert counted(own) == {("GET", "401"): 1, ("GET", "200"): 1}


class Override(requests.Session):
    """A session that sends by an adapter, without the method of its base class."""

    def send(self, request: Any, **kwargs: Any) -> requests.Response:
        return self.get_adapter(request.url).send(request)


class Logged(requests.Session):
    """A session that sends by the method of its base class."""

    def send(self, request: Any, **kwargs: Any) -> requests.Response:
        return super().send(request, **kwargs)


@pytest.mark.parametrize("kind", [Override, Logged])
@pytest.mark.parametrize("explicit", [True, False])
def test_subclass_that_overrides_send_is_counted_once(
    registry: CollectorRegistry, server: Server, kind: type[requests.Session], explicit: bool
) -> None:
    session = kind()
    if explicit:
        instrument(session, registry=registry)
    assert session.get(server.url).status_code == 200
    assert calls(registry) == {("GET", "127.0.0.1", "200", ""): 1}


def test_signatures_and_references_are_unchanged() -> None:
    assert list(inspect.signature(requests.Session.send).parameters) == ["self", "request", "kwargs"]
    assert pickle.loads(pickle.dumps(requests.Session.send)) is requests.Session.send
    assert requests.Session.send.__qualname__ == "Session.send"
    assert requests.Session.send.__doc__


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copied_sessions_work(registry: CollectorRegistry, server: Server, copied: Any) -> None:
    session = requests.Session()
    instrument(session, registry=registry)
    session.headers["X-Test"] = "1"
    other = copied(session)
    assert other.headers["X-Test"] == "1"
    other.get(server.url)
    assert total(registry) == 1


def test_traceback_and_context_of_exceptions_are_unchanged(server: Server) -> None:
    def frames() -> tuple[list[str], list[type]]:
        with pytest.raises(requests.ConnectionError) as raised:
            requests.get(f"{server.url}/drop")
        found, error = [], raised.value
        names: list[str] = []
        while error is not None:
            found.append(type(error))
            names += [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
            error = error.__context__  # type: ignore[assignment]
        return [name for name in names if "http_client/" in name and "/tests/" not in name], found

    measured_frames, kinds = frames()
    patches.restore_methods()
    assert (measured_frames if not TRACEBACKS_KEEP_FRAMES else [], kinds) == frames()


def test_uninstrument_of_a_session_that_was_never_instrumented_does_nothing() -> None:
    uninstrument(requests.Session())
    uninstrument(None)
