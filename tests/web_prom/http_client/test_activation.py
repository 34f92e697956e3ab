"""Which requests are measured, where they are counted, and what happens if the setting is off."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
import requests
import urllib3
from prometheus_client import CollectorRegistry

from flask_prom import FlaskProm
from tests.web_prom.http_client.support import Server, calls, counted, total
from tests.web_prom.support import python
from web_prom import asgi
from web_prom.config import Config
from web_prom.errors import ConfigError
from web_prom.http_client import activation, instrument, patches, uninstrument
from web_prom.http_client.recorder import CallRecorder
from web_prom.http_client.targets import ProcessTargets
from web_prom.metrics.recorder import Recorder
from web_prom.wsgi import PrometheusMiddleware


def application(environ: Any, start_response: Any) -> list[bytes]:
    """Answer every request."""
    start_response("200 OK", [])
    return [b""]


# One session -----------------------------------------------------------------------------------------


def test_instrument_measures_one_session(registry: CollectorRegistry, server: Server) -> None:
    session, other = requests.Session(), requests.Session()
    instrument(session, registry=registry)
    instrument(session, registry=registry)
    session.get(f"{server.url}/redirect/1")
    other.get(server.url)
    urllib3.PoolManager().request("GET", server.url)
    assert counted(registry) == {("GET", "302"): 1, ("GET", "200"): 1}
    uninstrument(session)
    session.get(server.url)
    assert total(registry) == 2


def test_instrument_measures_one_manager(registry: CollectorRegistry, server: Server) -> None:
    manager, other = urllib3.PoolManager(), urllib3.PoolManager()
    instrument(manager, registry=registry)
    instrument(manager, registry=registry)
    manager.request("GET", f"{server.url}/redirect/1")
    other.request("GET", server.url)
    assert counted(registry) == {("GET", "302"): 1, ("GET", "200"): 1}
    uninstrument(manager)
    manager.request("GET", server.url)
    assert total(registry) == 2


def test_instrument_measures_a_proxy_manager(registry: CollectorRegistry, server: Server) -> None:
    manager = urllib3.ProxyManager(server.url)
    instrument(manager, registry=registry)
    manager.request("GET", "http://shop.example/redirect/1", redirect=False)
    assert calls(registry) == {("GET", "shop.example", "302", ""): 1}


def test_sessions_that_are_not_measured_raise_their_own_tracebacks(
    registry: CollectorRegistry, server: Server
) -> None:
    class Failing(requests.adapters.BaseAdapter):
        def send(self, *args: Any, **kwargs: Any) -> Any:
            raise OSError

    session, own = requests.Session(), requests.Session()
    session.mount("own:", Failing())
    own.mount("own:", Failing())
    manager, client = urllib3.PoolManager(), httpx.Client()
    for each in (session, manager, client):
        instrument(each, registry=registry)
    calls: list[Callable[[], object]] = [
        lambda: session.get("nothing://"),
        lambda: session.get("own://"),
        lambda: own.get("own://"),
        lambda: own.get(f"{server.url}/drop"),
        lambda: urllib3.PoolManager().request("GET", f"{server.url}/drop", retries=False),
        lambda: httpx.Client().get(f"{server.url}/drop"),
    ]
    for call in calls:
        with pytest.raises(Exception) as raised:  # noqa: PT011
            call()
        files = {frame.filename for frame in traceback.extract_tb(raised.value.__traceback__)}
        kept = [name for name in files if "web_prom/http_client" in name and "/tests/" not in name]
        # Python 3.10 does not let an exception handler remove its own frame.
        assert (kept == []) is (sys.version_info >= (3, 11))


def test_instrument_refuses_other_objects() -> None:
    with pytest.raises(TypeError, match=r"dict cannot be measured; give a requests\.Session"):
        instrument({})


def test_instrument_uses_the_settings_of_the_application(registry: CollectorRegistry, server: Server) -> None:
    session = requests.Session()
    instrument(session, registry=registry)
    config = Config.load({"namespace": "shop", "constant_labels": {"zone": "a"}})
    middleware = PrometheusMiddleware(application, registry=registry, config=config)
    session.get(server.url)
    del middleware  # the settings are found as long as it exists
    (labels,) = (
        sample.labels
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "shop_http_client_request_duration_seconds_count"
    )
    assert labels["zone"] == "a"


def test_wrong_environment_does_not_change_the_call(
    registry: CollectorRegistry,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PROM_DURATION_BUCKETS", "nonsense")
    session = requests.Session()
    instrument(session, registry=registry)
    for _ in range(2):
        assert session.get(server.url).status_code == 200
    assert [r.message for r in caplog.records if r.levelno >= logging.ERROR] == [
        "the requests of instrumented sessions are not measured"
    ]


def test_session_and_setting_on_one_registry_count_once(registry: CollectorRegistry, server: Server) -> None:
    session = requests.Session()
    instrument(session, registry=registry)
    middleware = PrometheusMiddleware(application, registry=registry, http_client=True)
    session.get(server.url)
    assert total(registry) == 1
    del middleware


# All sessions ----------------------------------------------------------------------------------------


def measure_flask(registry: CollectorRegistry) -> Any:
    app = flask.Flask(__name__)
    app.config["PROM_HTTP_CLIENT"] = True
    FlaskProm(app, registry=registry)
    return app


def measure_wsgi(registry: CollectorRegistry) -> Any:
    return PrometheusMiddleware(application, registry=registry, http_client=True)


def measure_asgi(registry: CollectorRegistry) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Answer nothing."""

    return asgi.PrometheusMiddleware(app, registry=registry, http_client=True)


@pytest.mark.parametrize("measure", [measure_flask, measure_wsgi, measure_asgi])
def test_setting_measures_every_session_of_the_process(
    registry: CollectorRegistry, server: Server, measure: Callable[[CollectorRegistry], Any]
) -> None:
    session = requests.Session()
    session.get(server.url)
    app = measure(registry)
    session.get(server.url)
    requests.get(server.url)
    assert calls(registry) == {("GET", "127.0.0.1", "200", ""): 2}
    del app


def test_application_that_is_dropped_is_measured_no_longer(
    registry: CollectorRegistry, server: Server
) -> None:
    recorder = Recorder(Config(), registry)
    call_recorder = activation.activate(recorder)
    requests.get(server.url)
    del call_recorder
    assert ProcessTargets.targets == ()
    requests.get(server.url)
    assert total(registry) == 1


def test_applications_on_one_registry_count_once(registry: CollectorRegistry, server: Server) -> None:
    config = Config.load({"constant_labels": {"app": "a"}})
    other = Config.load({"constant_labels": {"app": "b"}})
    kept = [activation.activate(Recorder(each, registry)) for each in (config, other)]
    requests.get(server.url)
    assert total(registry) == 1
    del kept[0]
    requests.get(server.url)
    assert {s.labels["app"] for m in registry.collect() for s in m.samples if "client" in s.name} == {
        "a",
        "b",
    }


def test_applications_on_two_registries_count_in_both(registry: CollectorRegistry, server: Server) -> None:
    second = CollectorRegistry()
    kept = [activation.activate(Recorder(Config(), each)) for each in (registry, second)]
    requests.get(server.url)
    assert (total(registry), total(second)) == (1, 1)
    del kept


def test_constant_label_of_the_family_is_refused(registry: CollectorRegistry) -> None:
    config = Config(constant_labels={"server_address": "x"}, http_client=True)
    with pytest.raises(ConfigError, match="server_address"):
        PrometheusMiddleware(application, registry=registry, config=config)


@pytest.mark.parametrize("naming", ["prometheus", "opentelemetry"])
def test_family_has_one_name_under_each_naming(
    registry: CollectorRegistry, server: Server, naming: str
) -> None:
    app = PrometheusMiddleware(application, registry=registry, http_client=True, naming=naming)
    requests.get(server.url)
    assert total(registry) == 1
    del app


@pytest.mark.slow
def test_many_threads_are_counted_exactly(
    registry: CollectorRegistry, server: Server, measured: CallRecorder
) -> None:
    def run() -> None:
        with requests.Session() as session:
            for _ in range(20):
                session.get(f"{server.url}/redirect/1")

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total(registry) == len(server.log) == 320


def test_error_of_the_measurement_is_counted_and_the_call_goes_on(
    registry: CollectorRegistry,
    server: Server,
    measured: CallRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr("web_prom.http_client.recorder.address_label", fail)
    assert requests.get(server.url).status_code == 200
    monkeypatch.setattr("web_prom.http_client.urllib3_pools.record", fail)
    assert requests.get(server.url).status_code == 200
    errors = "web_prom_instrumentation_errors_total"
    assert registry.get_sample_value(errors, {"stage": "http_client"}) == 2


def test_release_without_the_methods_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(urllib3.HTTPConnectionPool, "_get_conn")
    instrument(urllib3.PoolManager(), registry=CollectorRegistry())
    assert f"some requests of urllib3 {version('urllib3')} are not measured" in caplog.messages


def test_restore_methods_restores_the_classes(measured: CallRecorder) -> None:
    original = requests.Session.get_adapter.__wrapped__  # type: ignore[attr-defined]
    patches.restore_methods()
    assert requests.Session.get_adapter is original


# Shared values ---------------------------------------------------------------------------------------


LATE = """
    import os, sys, requests
    from prometheus_client import CollectorRegistry
    from tests.web_prom.http_client.support import serving
    from web_prom import PrometheusMiddleware, share_values
    from web_prom.multiprocess.reading.collector import WorkersCollector

    directory = sys.argv[1]
    registry = CollectorRegistry()
    with serving() as server, requests.Session() as session:
        app = PrometheusMiddleware(lambda *_: [], registry=registry, http_client=True)
        session.get(server.url)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        other = PrometheusMiddleware(lambda *_: [], registry=CollectorRegistry(), http_client=True)
        session.get(server.url)
        session.close()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if requests.get(server.url).status_code == 200 else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        session.get(server.url)
    counts = [
        sample.value
        for family in WorkersCollector(directory, dict).collect()
        for sample in family.samples
        if sample.name == "http_client_request_duration_seconds_count"
    ]
    print(sum(counts), len(server.log))
"""


@pytest.mark.slow
def test_values_that_become_shared_late_and_a_fork_are_counted_once(tmp_path: Path) -> None:
    """Two applications write to the directory, and each request is counted once."""
    assert python(LATE, str(tmp_path)).split() == ["4.0", "4"]


# Off, and libraries that are imported later ----------------------------------------------------------

OFF = """
    import sys
    import requests, httpx, urllib3
    from prometheus_client import CollectorRegistry
    from web_prom.wsgi import PrometheusMiddleware
    app = PrometheusMiddleware(lambda *_: [], registry=CollectorRegistry())
    assert not any(name.startswith("web_prom.http_client") for name in sys.modules)
    assert requests.Session.get_adapter.__module__ == "requests.sessions"
    assert not hasattr(requests.Session.get_adapter, "__wrapped__")
    assert not hasattr(urllib3.HTTPConnectionPool._make_request, "__wrapped__")
    assert not any(type(finder).__module__.startswith("web_prom") for finder in sys.meta_path)
    print("off")
"""

LATER = """
    import sys
    from prometheus_client import CollectorRegistry
    from web_prom.wsgi import PrometheusMiddleware
    app = PrometheusMiddleware(lambda *_: [], registry=CollectorRegistry(), http_client=True)
    assert not {"requests", "httpx", "urllib3"} & set(sys.modules)
    import requests.sessions
    from httpx import Client
    import urllib3
    assert requests.Session.get_adapter.__wrapped__
    assert Client._send_single_request.__wrapped__
    assert urllib3.HTTPConnectionPool._make_request.__wrapped__
    assert "exec_module" not in vars(requests.__loader__)
    print(requests.__spec__.name)
"""


@pytest.mark.slow
def test_off_imports_and_patches_nothing() -> None:
    assert python(OFF).strip() == "off"


@pytest.mark.slow
def test_library_that_is_imported_later_is_measured() -> None:
    assert python(LATER).strip() == "requests"
