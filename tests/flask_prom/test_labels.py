"""The extra labels of Flask requests."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Response, g, request
from werkzeug.test import EnvironBuilder, run_wsgi_app

import web_prom as prom
from tests.flask_prom.conftest import MakeApp, Metrics


def test_extra_labels_get_the_final_response(make_app: MakeApp, registry: Any, metrics: Metrics) -> None:
    """They are computed in the request context, after all hooks."""
    labels = {
        "tenant": lambda request, response: g.tenant,
        "cache": lambda request, response: response.headers.get("X-Cache", "miss"),
    }
    app = make_app(extra_labels=labels, constant_labels={"service": "shop"})

    @app.before_request
    def tenant() -> None:
        g.tenant = "acme"

    @app.after_request
    def cache(response: Response) -> Response:
        response.headers["X-Cache"] = "hit"
        return response

    @app.get("/")
    def index() -> str:
        return ""

    app.test_client().get("/")
    expected = {"method": "GET", "route": "/", "status": "200", "service": "shop"}
    assert metrics("http_requests_total", **expected, tenant="acme", cache="hit") == 1
    assert metrics("http_requests_in_progress", service="shop") == 0


def test_fault_34_failing_extra_label_is_empty(make_app: MakeApp, metrics: Metrics) -> None:
    """The error is counted. The request is served and counted."""

    def broken(request: Any, response: Any) -> str:
        raise RuntimeError("no such tenant")

    app = make_app(extra_labels={"tenant": broken})

    @app.get("/")
    def index() -> str:
        return "fine"

    assert app.test_client().get("/").text == "fine"
    assert metrics("http_requests_total", method="GET", route="/", status="200", tenant="") == 1
    assert metrics.errors == {("label tenant",): 1}


@pytest.mark.parametrize("length", ["-1", "abc", "", "99999999999999999999"])
def test_fault_34_invalid_content_length_is_ignored(make_app: MakeApp, metrics: Metrics, length: str) -> None:
    """The value of the header is not used."""
    app = make_app(request_size=True)

    @app.post("/")
    def index() -> str:
        return "fine"

    environ = EnvironBuilder("/", method="POST").get_environ()
    environ["CONTENT_LENGTH"] = length
    body, status, _ = run_wsgi_app(app, environ)
    assert (status, b"".join(body)) == ("200 OK", b"fine")
    assert metrics.requests == {("POST", "/", "200"): 1}
    assert metrics.errors == {}


@pytest.mark.parametrize("size", [0, 1, 5000, 200_000])
def test_request_size_is_the_number_of_bytes_that_a_view_reads(
    make_app: MakeApp, metrics: Metrics, size: int
) -> None:
    app = make_app(request_size=True)
    app.add_url_rule("/", "index", lambda: str(len(request.get_data())), methods=["POST"])
    assert app.test_client().post("/", data=b"x" * size).text == str(size)
    assert metrics("http_request_size_bytes_sum", method="POST", route="/") == size


def test_header_label_is_limited(make_app: MakeApp, metrics: Metrics) -> None:
    app = make_app(
        extra_labels={
            "version": prom.header("X-API-Version", allowed=("1", "2")),
            "tenant": prom.header("X-Tenant", limit=1),
        }
    )
    app.add_url_rule("/", "index", lambda: "hello")
    for version, tenant in (("1", "a"), ("9", "b"), ("2", "a")):
        app.test_client().get("/", headers={"X-API-Version": version, "X-Tenant": tenant})
    found = metrics.by_labels("http_requests_total", "version", "tenant")
    assert found == {("1", "a"): 1, ("_other", "_overflow"): 1, ("2", "a"): 1}
