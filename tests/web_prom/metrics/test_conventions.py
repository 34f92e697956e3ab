"""The naming of OpenTelemetry's conventions: families, labels and label values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.web_prom.asgi import asgi_server
from tests.web_prom.metrics.support import names_of_writes
from tests.web_prom.support import App, Environ, Server, environ_of, errors, hello, python, samples, serve
from web_prom import asgi
from web_prom.config import Config
from web_prom.errors import ConfigError, ConflictError
from web_prom.metrics.conventions import NAMINGS, OPENTELEMETRY
from web_prom.metrics.writers import GenericWriter
from web_prom.wsgi import PrometheusMiddleware, set_route

NAME = "http_server_request_duration_seconds"
LABELS = (
    "http_request_method",
    "url_scheme",
    "error_type",
    "http_response_status_code",
    "http_route",
    "network_protocol_version",
)
# The gauge exists before the first request, with the attributes of most requests.
IDLE: dict[tuple[str, ...], float] = {("GET", "http"): 0}
SIZED = {"request_size": True, "response_size": True, "first_byte": True, "queue_time": True}


def measure(app: App, registry: CollectorRegistry, **options: Any) -> PrometheusMiddleware:
    """Return an application that is measured with OpenTelemetry's names."""
    return PrometheusMiddleware(app, registry=registry, naming="opentelemetry", **options)


def counts(registry: CollectorRegistry, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the counts of the duration histogram by labels."""
    return samples(registry, f"{NAME}_count", *(labels or LABELS))


def active(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return the gauge of requests in progress by method and scheme."""
    return samples(registry, "http_server_active_requests", "http_request_method", "url_scheme")


def failing(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Raise an exception before the response."""
    raise LookupError("nothing here")


def test_opentelemetry_names_types_and_buckets(registry: CollectorRegistry) -> None:
    """Families that are not in the conventions keep their names."""
    serve(measure(hello, registry, **SIZED), HTTP_X_REQUEST_START="t=1")
    families = {family.name: family for family in registry.collect()}
    assert {name: family.type for name, family in families.items() if name.startswith("http")} == {
        NAME: "histogram",
        "http_server_active_requests": "gauge",
        "http_server_request_body_size_bytes": "histogram",
        "http_server_response_body_size_bytes": "histogram",
        "http_response_first_byte_seconds": "histogram",
        "http_request_queue_seconds": "histogram",
    }
    buckets = [
        float(sample.labels["le"]) for sample in families[NAME].samples if sample.name.endswith("_bucket")
    ]
    assert buckets == [
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, float("inf")
    ]  # fmt: skip
    for size in ("request", "response"):
        assert samples(registry, f"http_server_{size}_body_size_bytes_count", *LABELS) == counts(registry)
    assert samples(registry, "http_response_first_byte_seconds_count", "method", "route") == {
        ("GET", "_unmatched"): 1
    }


def test_opentelemetry_labels_are_attributes_of_the_request(registry: CollectorRegistry) -> None:
    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        set_route(environ, "/users/<id>")
        assert active(registry) == {**IDLE, ("POST", "https"): 1}
        return hello(environ, start_response)

    wrapped = measure(app, registry)
    for _ in range(3):
        serve(wrapped, method="POST", SERVER_PROTOCOL="HTTP/1.1", **{"wsgi.url_scheme": "https"})
    assert counts(registry) == {("POST", "https", "", "200", "/users/<id>", "1.1"): 3}
    assert active(registry) == {**IDLE, ("POST", "https"): 0}
    assert errors(registry) == {}


def test_opentelemetry_label_of_a_missing_attribute_is_empty(registry: CollectorRegistry) -> None:
    """For Prometheus an empty label does not exist. Here no route matched."""
    serve(measure(hello, registry), SERVER_PROTOCOL="HTTP/1.0")
    assert counts(registry) == {("GET", "http", "", "200", "", "1.0"): 1}
    assert 'http_route=""' in generate_latest(registry).decode()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"REQUEST_METHOD": "BREW"}, ("_OTHER", "http", "1.0")),
        ({"REQUEST_METHOD": "get"}, ("_OTHER", "http", "1.0")),
        ({"wsgi.url_scheme": "gopher"}, ("GET", "_OTHER", "1.0")),
        ({"SERVER_PROTOCOL": "HTTP/2"}, ("GET", "http", "2")),
        ({"SERVER_PROTOCOL": "HTTP/2.0"}, ("GET", "http", "2")),
        ({"SERVER_PROTOCOL": "HTTP/3"}, ("GET", "http", "3")),
        ({"SERVER_PROTOCOL": "INCLUDED"}, ("GET", "http", "")),
        ({"SERVER_PROTOCOL": "HTTP/1.10"}, ("GET", "http", "")),
    ],
)
def test_opentelemetry_labels_have_bounded_values(
    values: dict[str, str], expected: tuple[str, ...], registry: CollectorRegistry
) -> None:
    serve(measure(hello, registry), **{"SERVER_PROTOCOL": "HTTP/1.0", **values})
    labels = ("http_request_method", "url_scheme", "network_protocol_version")
    assert counts(registry, *labels) == {expected: 1}
    assert active(registry) == {**IDLE, expected[:2]: 0}


def test_caches_do_not_grow_with_unknown_values(registry: CollectorRegistry) -> None:
    wrapped = measure(hello, registry)
    for number in range(50):
        serve(wrapped, method=f"M{number}", SERVER_PROTOCOL=f"HTTP/9.{number}")
    assert len(wrapped.recorder.request_starts) == 0
    assert len(wrapped.recorder.request_starts._by_values) == len(wrapped.recorder.writers) == 1
    assert counts(registry) == {("_OTHER", "http", "", "200", "", ""): 50}


# Errors ----------------------------------------------------------------------------------------------


def test_error_type_is_the_status_or_the_exception(registry: CollectorRegistry) -> None:
    """A client error has no error type."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response(environ["PATH_INFO"][1:] + " X", [])
        return []

    for status in ("404", "500", "503", "abc"):
        serve(measure(app, registry), f"/{status}")
    with pytest.raises(LookupError):
        serve(measure(failing, registry))
    assert counts(registry, "http_response_status_code", "error_type") == {
        ("404", ""): 1,
        ("500", "500"): 1,
        ("503", "503"): 1,
        ("_OTHER", "_OTHER"): 1,
        ("500", "LookupError"): 1,
    }
    assert samples(registry, "http_request_exceptions_total", "exception") == {}


def test_error_type_of_a_failed_body_with_the_sent_status(registry: CollectorRegistry) -> None:
    class Vanished(Exception):
        """An exception with a qualified name."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"x"
        raise Vanished

    with pytest.raises(Vanished):
        serve(measure(app, registry))
    ((status, error),) = counts(registry, "http_response_status_code", "error_type")
    assert (status, error) == ("200", Vanished.__qualname__)
    assert "." in error


def test_error_type_is_empty_without_a_server_error(registry: CollectorRegistry) -> None:
    """If there are several exceptions, the last one is the error type."""
    wrapped = measure(hello, registry)
    for status in ("404", "500"):
        exchange = wrapped._exchange_class(wrapped.recorder, wrapped._start_key(environ_of()))
        exchange.add_exception(KeyError())
        exchange.add_exception(ValueError())
        exchange.status = status
        exchange.finish()
    assert counts(registry, "http_response_status_code", "error_type") == {
        ("404", ""): 1,
        ("500", "ValueError"): 1,
    }


def test_error_type_stays_empty_over_the_limit(registry: CollectorRegistry) -> None:
    """The limit must not add an error to a request that had none."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        set_route(environ, environ["PATH_INFO"])
        if "bad" in environ["PATH_INFO"]:
            raise LookupError
        return hello(environ, start_response)

    wrapped = measure(app, registry, max_label_sets=1)
    for path in ("/a", "/b", "/c"):
        serve(wrapped, path)
    with pytest.raises(LookupError):
        serve(wrapped, "/bad")
    assert counts(registry, "http_route", "error_type") == {
        ("/a", ""): 1,
        ("_overflow", ""): 2,
        ("_overflow", "_overflow"): 1,
    }


# ASGI ------------------------------------------------------------------------------------------------


def serve_asgi(app: Any, registry: CollectorRegistry, *, without: str = "", **scope: Any) -> None:
    """Serve one request of an ASGI application that is measured with OpenTelemetry's names."""
    wrapped = asgi.PrometheusMiddleware(app, registry=registry, naming="opentelemetry")
    made = asgi_server.scope_of(**scope)
    made.pop(without, None)
    asgi_server.Server().run(wrapped, made)


def test_opentelemetry_attributes_under_asgi(registry: CollectorRegistry) -> None:
    serve_asgi(asgi_server.hello, registry, scheme="https", http_version="2")
    serve_asgi(asgi_server.hello, registry, http_version="1.1", without="scheme")
    assert counts(registry, "url_scheme", "network_protocol_version") == {
        ("https", "2"): 1,
        ("http", "1.1"): 1,
    }
    assert active(registry) == {("GET", "https"): 0, ("GET", "http"): 0}
    assert errors(registry) == {}


def test_error_type_is_empty_for_a_disconnected_client(registry: CollectorRegistry) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    wrapped = asgi.PrometheusMiddleware(app, registry=registry, naming="opentelemetry")
    asgi_server.Server([asgi_server.DISCONNECT]).run(wrapped, asgi_server.scope_of())
    assert counts(registry, "http_response_status_code", "error_type") == {("499", ""): 1}


def test_opentelemetry_keeps_the_names_of_websocket_families(registry: CollectorRegistry) -> None:
    """The conventions have no families for WebSockets."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})

    wrapped = asgi.PrometheusMiddleware(app, registry=registry, naming="opentelemetry")
    asgi_server.Server().run(wrapped, asgi_server.websocket_of())
    assert samples(registry, "websocket_connections_total", "route", "code") == {("_unmatched", "1000"): 1}
    assert active(registry) == IDLE


# Settings --------------------------------------------------------------------------------------------


def test_opentelemetry_with_own_buckets_labels_and_namespace(registry: CollectorRegistry) -> None:
    """`duration_status` changes nothing, because the histogram already has the status."""
    wrapped = measure(
        hello,
        registry,
        namespace="shop",
        duration_buckets=(1, 2),
        duration_status=True,
        constant_labels={"tier": "web"},
        extra_labels={"host": lambda environ, _: environ["HTTP_HOST"]},
        extra_methods=("PROPFIND",),
    )
    serve(wrapped, method="PROPFIND", HTTP_HOST="a", SERVER_PROTOCOL="HTTP/1.1")
    labels = (*LABELS, "host", "tier")
    assert samples(registry, f"shop_{NAME}_count", *labels) == {
        ("PROPFIND", "http", "", "200", "", "1.1", "a", "web"): 1
    }
    assert set(samples(registry, f"shop_{NAME}_bucket", "le")) == {("1.0",), ("2.0",), ("+Inf",)}
    gauge = ("http_request_method", "url_scheme", "tier")
    assert samples(registry, "shop_http_server_active_requests", *gauge) == {
        ("GET", "http", "web"): 0,
        ("PROPFIND", "http", "web"): 0,
    }


def test_naming_from_each_source_sets_the_default_buckets() -> None:
    """Explicit buckets have priority."""
    for config in (
        Config.load({"naming": "opentelemetry"}),
        Config.load(settings={"PROM_NAMING": "opentelemetry"}),
        Config.load(environ={"PROM_NAMING": "opentelemetry"}),
    ):
        assert config.duration_buckets == OPENTELEMETRY.duration_buckets
    assert Config.load({"naming": "prometheus"}) == Config()
    mixed = Config.load({"duration_buckets": (1, 2)}, environ={"PROM_NAMING": "opentelemetry"})
    assert mixed.duration_buckets == (1, 2)


def test_opentelemetry_rejects_status_classes() -> None:
    """In the conventions the status is a number."""
    with pytest.raises(ConfigError, match=r"PROM_STATUS_CLASSES is on and PROM_NAMING is 'opentelemetry'"):
        Config.load({"naming": "opentelemetry", "status_classes": True})


@pytest.mark.parametrize("setting", ["constant_labels", "extra_labels"])
def test_opentelemetry_rejects_labels_with_its_names(setting: str) -> None:
    """The other naming allows these labels."""
    options: dict[str, Any] = {setting: {"url_scheme": str if setting == "extra_labels" else "x"}}
    with pytest.raises(ConfigError, match=r"'url_scheme' .*PROM_NAMING is 'opentelemetry'"):
        Config.load({**options, "naming": "opentelemetry"})
    assert getattr(Config.load(options), setting).keys() == {"url_scheme"}


def test_registry_rejects_a_second_naming(registry: CollectorRegistry) -> None:
    measure(hello, registry, owner="the first")
    with pytest.raises(
        ConflictError, match=r"the first and the second .*PROM_NAMING is 'opentelemetry' .*'prometheus'"
    ):
        PrometheusMiddleware(hello, registry=registry, owner="the second")
    measure(hello, registry)


def test_labels_use_only_known_attributes() -> None:
    """The labels of the gauge are attributes of the start."""
    known = {"method", "scheme", "protocol", "route", "template", "status", "error"}
    for naming in NAMINGS.values():
        further = [family.spec for family in naming.further]
        families = (naming.requests, naming.duration, naming.request_size, naming.response_size, *further)
        labels = {attribute for family in families if family for attribute in family.labels.values()}
        assert labels <= known | {"view", *naming.request_attributes}
        assert set(naming.in_progress.labels.values()) <= set(naming.start_attributes)


@pytest.mark.parametrize(
    ("naming", "gauge"),
    [("prometheus", "http_requests_in_progress"), ("opentelemetry", "http_server_active_requests")],
)
def test_in_progress_exists_before_the_first_request(
    naming: str, gauge: str, registry: CollectorRegistry
) -> None:
    """So a worker has a series from its start on."""
    PrometheusMiddleware(hello, registry=registry, naming=naming, constant_labels={"tier": "web"})
    assert samples(registry, gauge, "tier") == {("web",): 0}


# Values ----------------------------------------------------------------------------------------------


def test_opentelemetry_writer_of_values_in_memory(registry: CollectorRegistry) -> None:
    wrapped = measure(hello, registry)
    serve(wrapped)
    assert names_of_writes(wrapped.recorder) == ["in_memory_write.<locals>.write"]


def test_opentelemetry_writer_of_shared_values(registry: CollectorRegistry, shared: Path) -> None:
    """The gauge is written too. Several applications of a registry share it."""
    wrapped = measure(hello, registry)
    for _ in range(3):
        serve(wrapped)
    assert names_of_writes(wrapped.recorder) == ["MmapHistogramWriter.write"]
    assert sum(counts(registry).values()) == 3
    assert active(registry) == {("GET", "http"): 0}
    body = wrapped(environ_of(), Server().start_response)
    assert active(registry) == {("GET", "http"): 1}
    body.close()  # type: ignore[attr-defined]
    assert active(registry) == {("GET", "http"): 0}


@pytest.mark.slow
def test_opentelemetry_totals_of_many_workers(tmp_path: Path) -> None:
    """The merged values are right, also after a worker was killed during a request."""
    printed = python(
        """
        import os, signal
        from tests.web_prom.support import environ_of, hello, serve, Server
        from web_prom.wsgi import PrometheusMiddleware

        wrapped = PrometheusMiddleware(hello, naming="opentelemetry")
        serve(wrapped, "/")
        for _ in range(2):
            pid = os.fork()
            if not pid:
                for _ in range(3):
                    serve(wrapped, "/", SERVER_PROTOCOL="HTTP/1.1")
                body = wrapped(environ_of("/"), Server().start_response)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(pid, 0)
        print(serve(wrapped, "/metrics").decode())
        """,
        PROMETHEUS_MULTIPROC_DIR=str(tmp_path),
    )
    counted = {line.split()[0]: float(line.split()[1]) for line in printed.splitlines() if "_count{" in line}
    assert sorted(counted.values()) == [1, 6]
    assert 'http_server_active_requests{http_request_method="GET",url_scheme="http"} 0.0' in printed
    assert "http_requests" not in printed


@pytest.mark.slow
def test_gauge_is_zero_after_a_request_during_which_values_became_shared(tmp_path: Path) -> None:
    """The request starts with values in memory and ends with shared values."""
    printed = python(
        """
        import os, sys
        from prometheus_client import REGISTRY
        from tests.web_prom.support import Server, environ_of, hello
        from web_prom.wsgi import PrometheusMiddleware

        def in_progress():
            labels = {"http_request_method": "GET", "url_scheme": "http"}
            return REGISTRY.get_sample_value("http_server_active_requests", labels)

        wrapped = PrometheusMiddleware(hello, naming="opentelemetry")
        body = wrapped(environ_of(), Server().start_response)
        print(in_progress())
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
        PrometheusMiddleware(hello, naming="opentelemetry")
        print(in_progress())
        body.close()
        print(in_progress())
        """,
        str(tmp_path),
    )
    assert printed.split() == ["1.0", "1.0", "0.0"]


def test_generic_writer_without_a_counter() -> None:
    written: list[tuple[str, float]] = []

    def value(name: str) -> Any:
        return SimpleNamespace(inc=lambda amount: written.append((name, amount)))

    GenericWriter(None, value("sum"), [value("1"), value("+Inf")], (1.0,)).write(0.5, None)
    assert written == [("sum", 0.5), ("1", 1.0)]
