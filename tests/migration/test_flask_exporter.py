"""prometheus-flask-exporter and PROM_NAMING = "prometheus-flask-exporter" on the same traffic."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flask import Flask, abort, redirect, request
from prometheus_client import CollectorRegistry
from prometheus_flask_exporter import PrometheusMetrics

from flask_prom import FlaskProm
from tests.migration import compare
from tests.migration.compare import Difference, Report, assert_equal, like_ours, rename
from tests.migration.traffic import SLOW_SECONDS, TRAFFIC

EXCLUDED = "/health"
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "PURGE"]

RAW_PATHS = Difference(
    "Paths with values",
    rename("path", {f"/items/{item}": "/items/<int:item>" for item in ("1", "2", "404")}),
)
UNKNOWN_URLS = Difference(
    "Unknown URLs", rename("path", {"/nowhere/1": "_unmatched", "/nowhere/2": "_unmatched"})
)
OTHER_METHODS = Difference("Unknown methods", rename("method", {"PURGE": "_OTHER"}))
VERSION = Difference("Version", like_ours(lambda name, _labels: name.endswith("exporter_info")))
ROUTE_OF_405 = Difference("Route of a 405", like_ours(lambda _name, labels: labels.get("status") == "405"))
ZEROS = Difference("Errors at 0", compare.zeros)
LABEL_OF_GROUP_BY = {"endpoint": [], "url_rule": [ROUTE_OF_405]}


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.logger.disabled = True

    @app.get("/items/<int:item>")
    def item(item: int) -> str:
        if item == 404:
            abort(404)
        return f"item {item}"

    @app.route("/items", methods=METHODS)
    def items() -> str:
        return f"{len(request.get_data())} bytes"

    @app.get("/error")
    def error() -> str:
        raise ValueError("as intended")

    @app.get("/old")
    def old() -> Any:
        return redirect("/items/1")

    @app.get("/stream")
    def stream() -> Any:
        return iter(["a", "b"])

    @app.get("/slow")
    def slow() -> str:
        time.sleep(SLOW_SECONDS)
        return "slow"

    @app.get(EXCLUDED)
    def health() -> str:
        return "ok"

    return app


def send(app: Flask) -> None:
    for each in TRAFFIC:
        response = app.test_client().open(each.path, method=each.method, data=each.body, headers=each.headers)
        response.get_data()
        response.close()


def theirs(**options: Any) -> Report:
    app, registry = create_app(), CollectorRegistry()
    PrometheusMetrics(app, registry=registry, excluded_paths=[f"^{EXCLUDED}$"], **options)
    send(app)
    return compare.read(registry)


def ours(naming: str, **options: Any) -> Report:
    app, registry = create_app(), CollectorRegistry()
    FlaskProm(app, registry=registry, naming=naming, exclude=[EXCLUDED], **options)
    send(app)
    return compare.read(registry)


@pytest.mark.parametrize(
    ("their_options", "our_options"),
    [
        ({}, {}),
        ({"defaults_prefix": "shop"}, {"namespace": "shop"}),
        ({"buckets": (0.1, 1, 10)}, {"duration_buckets": (0.1, 1, 10)}),
        ({"default_labels": {"zone": "a"}}, {"constant_labels": {"zone": "a"}}),
        (
            {"default_labels": {"agent": lambda: request.headers.get("User-Agent", "")[:8]}},
            {"extra_labels": {"agent": lambda request, _: request.headers.get("User-Agent", "")[:8]}},
        ),
    ],
)
def test_families_are_those_of_the_library(
    their_options: dict[str, Any], our_options: dict[str, Any]
) -> None:
    expected, actual = theirs(**their_options), ours("prometheus-flask-exporter", **our_options)
    differences = [RAW_PATHS, UNKNOWN_URLS, OTHER_METHODS, VERSION]
    if "extra_labels" not in our_options:
        differences.append(ZEROS)
    assert_equal(expected, actual, differences)


@pytest.mark.parametrize("group_by", LABEL_OF_GROUP_BY)
def test_families_have_the_label_of_group_by(group_by: str) -> None:
    differences = [OTHER_METHODS, VERSION, ZEROS, *LABEL_OF_GROUP_BY[group_by]]
    assert_equal(theirs(group_by=group_by), ours(f"prometheus-flask-exporter:{group_by}"), differences)


def test_durations_include_the_view() -> None:
    for report in (theirs(), ours("prometheus-flask-exporter")):
        (seconds,) = (value for (_, labels), value in report.sums.items() if ("path", "/slow") in labels)
        assert seconds >= SLOW_SECONDS


def test_excluded_paths_are_in_no_family() -> None:
    for report in (theirs(), ours("prometheus-flask-exporter")):
        assert not [labels for _, labels in report.samples if ("path", EXCLUDED) in labels]
