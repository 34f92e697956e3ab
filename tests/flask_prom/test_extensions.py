"""Flask extensions that handle exceptions themselves."""

from __future__ import annotations

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry

from flask_prom import FlaskProm
from tests.flask_prom.conftest import MakeApp, Metrics


@pytest.mark.parametrize("first", ["restx", "prom"])
def test_fault_92_exception_that_flask_restx_handles_is_counted(
    registry: CollectorRegistry, metrics: Metrics, first: str
) -> None:
    """Both orders of initialisation work."""
    restx = pytest.importorskip("flask_restx")
    app = Flask("shop")
    app.config["PROPAGATE_EXCEPTIONS"] = False
    if first == "prom":
        FlaskProm(app, registry=registry)
    api = restx.Api(app)

    class SoldOutError(Exception):
        pass

    @api.errorhandler(SoldOutError)  # type: ignore[untyped-decorator]
    def answer(_: SoldOutError) -> tuple[dict[str, str], int]:
        return {"message": "sold out"}, 503

    @api.route("/sold-out")
    class SoldOut(restx.Resource):  # type: ignore[misc, name-defined]
        def get(self) -> None:
            raise SoldOutError

    @api.route("/fails")
    class Fails(restx.Resource):  # type: ignore[misc, name-defined]
        def get(self) -> None:
            raise ValueError

    if first == "restx":
        FlaskProm(app, registry=registry)
    client = app.test_client()
    for _ in range(2):
        assert client.get("/sold-out").status_code == 503
        assert client.get("/fails").status_code == 500
    assert metrics.requests == {("GET", "/sold-out", "503"): 2, ("GET", "/fails", "500"): 2}
    assert metrics.exceptions == {
        ("GET", "/sold-out", "SoldOutError"): 2,
        ("GET", "/fails", "ValueError"): 2,
    }


@pytest.mark.parametrize("method", ["handle_user_exception", "handle_exception"])
def test_fault_92_exception_that_a_later_extension_handles_is_counted(
    make_app: MakeApp, metrics: Metrics, method: str
) -> None:
    """Such extensions replace a method of the application (flask-restful, flask-smorest)."""
    app = make_app()

    @app.get("/fails")
    def fails() -> str:
        raise ValueError

    setattr(app, method, lambda *_: app.response_class("sorry", 503))
    assert app.test_client().get("/fails").status_code == 503
    assert metrics.exceptions == {("GET", "/fails", "ValueError"): 1}
