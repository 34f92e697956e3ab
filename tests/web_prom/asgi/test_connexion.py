"""Connexion 3: its applications are ASGI applications around Flask or Starlette."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.asgi_server import Server, scope_of
from tests.web_prom.support import errors, exceptions, in_progress, requests
from web_prom.asgi import PrometheusMiddleware

connexion = pytest.importorskip("connexion", reason="Connexion does not go with Flask 2.3.0")

SPECIFICATION = """
openapi: "3.0.0"
info: {title: shop, version: "1"}
servers: [{url: /api}]
paths:
  /users/{user_id}:
    get:
      operationId: tests.web_prom.asgi.test_connexion.user
      parameters: [{name: user_id, in: path, required: true, schema: {type: integer}}]
      responses: {"200": {description: ok}}
  /error/{name}:
    get:
      operationId: tests.web_prom.asgi.test_connexion.fail
      parameters: [{name: name, in: path, required: true, schema: {type: string}}]
      responses: {"200": {description: ok}}
"""


def user(user_id: int) -> str:
    """Answer."""
    return "ok"


def fail(name: str) -> str:
    """Fail."""
    raise ZeroDivisionError


def request(app: Any, path: str, method: str = "GET") -> int:
    """Send a request, and return the status; an application that raises is a 500."""
    server = Server([{"type": "http.request"}, {"type": "http.disconnect"}])
    asyncio.run(server.serve(app, scope_of(path, method)))
    return server.status


@pytest.mark.parametrize("how", ["around", "install"])
@pytest.mark.parametrize("kind", ["FlaskApp", "AsyncApp"])
def test_fault_45_connexion_operations_have_their_routes(
    kind: str, how: str, tmp_path: Path, registry: CollectorRegistry
) -> None:
    (tmp_path / "api.yaml").write_text(SPECIFICATION)
    app = getattr(connexion, kind)(__name__, specification_dir=tmp_path)
    app.add_api("api.yaml")
    if how == "around":
        app = PrometheusMiddleware(app, registry=registry)
    else:
        PrometheusMiddleware.install(app, registry=registry)
    server = Server([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    asyncio.run(server.serve(app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}))
    template = "<int:user_id>" if kind == "FlaskApp" else "{user_id:int}"
    name = "<name>" if kind == "FlaskApp" else "{name}"
    sent = [
        ("/api/users/1", "GET", 200, f"/api/users/{template}"),
        ("/api/users/x", "GET", 404, "_unmatched"),
        ("/api/error/x", "GET", 500, f"/api/error/{name}"),
        ("/api/users/1", "POST", 405, f"/api/users/{template}"),
        ("/nothing", "GET", 404, "_unmatched"),
    ]
    for path, method, status, _ in sent:
        assert request(app, path, method) == status
    expected: dict[tuple[str, ...], float] = {}
    for _, method, status, route in sent:
        key = (method, route, str(status))
        expected[key] = expected.get(key, 0) + 1
    assert requests(registry) == expected
    assert exceptions(registry) == {(f"/api/error/{name}", "ZeroDivisionError"): 1}
    assert in_progress(registry) == 0
    assert errors(registry) == {}
