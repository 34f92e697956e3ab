"""What the tests of databases share: a measured application, and the reading of its samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from web_prom import PrometheusMiddleware
from web_prom.database.activation import activate
from web_prom.database.recorder import DatabaseRecorder
from web_prom.wsgi import set_route


class Shop:
    """A measured WSGI application.

    Attributes:
        registry: Its registry.
        recorder: Its database recorder.
    """

    def __init__(self, registry: CollectorRegistry, **options: Any) -> None:
        self.registry = registry
        self._work: list[tuple[str, Callable[[], object]]] = []
        self.middleware = PrometheusMiddleware(
            self._answer, registry=registry, **{"database": True, **options}
        )
        self.recorder: DatabaseRecorder = activate(self.middleware.recorder)

    def serve(self, work: Callable[[], object], route: str = "/items") -> None:
        """Serve a request that calls a function."""
        self._work.append((route, work))
        body: Any = self.middleware({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: lambda _: None)
        try:
            list(body)
        finally:
            body.close()

    def scrape(self) -> str:
        """Return a scrape."""
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics"}
        return b"".join(self.middleware(environ, lambda *_: lambda _: None)).decode()

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of a sample, or None."""
        return self.registry.get_sample_value(name, labels)

    def by_route(self, name: str, route: str, method: str = "GET") -> float | None:
        """Return a counter of queries by route: `queries`, `seconds` or `repeated_queries`."""
        return self.value(f"http_request_db_{name}_total", method=method, route=route)

    def operations(
        self, name: str, error: str = "", namespace: str = "shop.db", system: str = "sqlite"
    ) -> float:
        """Return the number of operations of a kind."""
        labels = {
            "db_system_name": system,
            "db_namespace": namespace,
            "db_operation_name": name,
            "error_type": error,
        }
        return self.value("db_client_operation_duration_seconds_count", **labels) or 0.0

    def pool(self, name: str, pool: str = "shop.db", **labels: str) -> float:
        """Return the value of a sample of a pool: the part of its name after `db_client_connection_`."""
        found = self.value(f"db_client_connection_{name}", db_client_connection_pool_name=pool, **labels)
        return found or 0.0

    def internal_errors(self, stage: str) -> float:
        """Return the number of errors of the instrumentation."""
        return self.value("web_prom_instrumentation_errors_total", stage=stage) or 0.0

    def _answer(self, environ: Any, start_response: Any) -> list[bytes]:
        route, work = self._work.pop()
        set_route(environ, route)
        work()
        start_response("200 OK", [])
        return [b"x"]
