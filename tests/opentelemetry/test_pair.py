"""OpenTelemetry's instrumentation and web-prom: the same requests and families, and their differences."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

from tests import interpreters
from tests.opentelemetry.pair import DURATION
from tests.web_prom.support import ROOT

STATUS, ERROR, ROUTE = "http_response_status_code", "error_type", "http_route"
METHOD, SCHEME, PROTOCOL = "http_request_method", "url_scheme", "network_protocol_version"

# Intended differences: for each request, web-prom's labels in the place of OpenTelemetry's.
# docs/how-to/opentelemetry.rst gives the reasons.
RAISED = {ERROR: "LookupError"}
TEMPLATE = {"flask": "/status/<int:code>/", "django": "/status/<int:code>/", "fastapi": "/status/{code}/"}
MEANT: dict[tuple[str, str], dict[str, str]] = {
    # The exception says more than the status that it caused.
    ("flask", "raised"): RAISED,
    ("django", "raised"): RAISED,
    ("fastapi", "raised"): RAISED,
    # The server answers 500 for an application that raises.
    ("wsgi", "raised"): {STATUS: "500"},
    # A request ends with its body; OpenTelemetry's WSGI request ends before its body starts.
    ("wsgi", "broken body"): RAISED,
    ("flask", "broken body"): RAISED,
    ("django", "broken body"): RAISED,
    ("fastapi", "broken body"): RAISED,
    # A redirect to the path with a slash and a 405 belong to a route.
    ("flask", "slash"): {ROUTE: TEMPLATE["flask"]},
    ("django", "slash"): {ROUTE: TEMPLATE["django"]},
    ("fastapi", "slash"): {ROUTE: TEMPLATE["fastapi"]},
    ("flask", "405"): {ROUTE: TEMPLATE["flask"]},
    ("flask", "odd method"): {ROUTE: TEMPLATE["flask"]},
    # Methods are case-sensitive, as in HTTP; a client cannot create a series.
    ("wsgi", "small letters"): {METHOD: "_OTHER"},
    ("wsgi", "odd scheme"): {SCHEME: "_OTHER"},
    ("wsgi", "odd protocol"): {PROTOCOL: ""},
    # This is the name in the convention's examples.
    ("wsgi", "HTTP/2.0"): {PROTOCOL: "2"},
}


FRAMEWORKS = ("wsgi", "flask", "django", "fastapi")


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    """Return the name of a framework."""
    return str(request.param)


@pytest.fixture(scope="module")
def measured(framework: str) -> dict[str, Any]:
    """Return the measurements of one framework's application by both, in a separate process."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PROM", "OTEL_"))}
    done = interpreters.run(
        [sys.executable, "-B", "-m", "tests.opentelemetry.pair", framework],
        cwd=ROOT,
        env={**environ, "OTEL_SEMCONV_STABILITY_OPT_IN": "http"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_labels_agree_with_opentelemetry_but_for_known_differences(
    framework: str, measured: dict[str, Any]
) -> None:
    """Each request is counted once by both. Django's routes start with a slash like the others."""
    found = measured["requests"]
    assert len(found) > 10
    for request, (ours, theirs) in found.items():
        assert len(ours) == len(theirs) == 1, request
        expected = dict(theirs[0])
        if framework == "django" and ROUTE in expected:
            expected[ROUTE] = "/" + expected[ROUTE]
        meant = MEANT.get((framework, request), {})
        assert not any(expected.get(label, "") == value for label, value in meant.items()), (
            f"{request}: no more"
        )
        expected |= meant
        assert ours[0] == {label: value for label, value in expected.items() if value}, request


def test_each_known_difference_is_tested(framework: str, measured: dict[str, Any]) -> None:
    """Otherwise a request that is no longer sent would hide that its difference no longer exists."""
    assert {name for name, _ in MEANT} <= set(FRAMEWORKS)
    assert {request for name, request in MEANT if name == framework} <= measured["requests"].keys()


def test_families_agree_with_opentelemetry(framework: str, measured: dict[str, Any]) -> None:
    """Names, types, help texts, labels and buckets agree, but for the buckets of sizes."""
    ours, theirs = measured["families"]
    assert set(theirs) - set(ours) == set()
    for name, family in theirs.items():
        assert family["scope"] == ["otel_scope_name", "otel_scope_schema_url", "otel_scope_version"]
        assert ours[name]["scope"] == []
        for what in ("type", "help", *(["buckets"] if name == DURATION else [])):
            assert ours[name][what] == family[what], (name, what)
        # OpenTelemetry adds a label at the first request with a value; plain WSGI has no route.
        assert set(family["labels"]) <= set(ours[name]["labels"])
        assert set(ours[name]["labels"]) - set(family["labels"]) <= (
            {ROUTE} if framework == "wsgi" else set()
        )


def test_gauges_agree_with_opentelemetry_and_return_to_zero(framework: str, measured: dict[str, Any]) -> None:
    """The gauges have the labels method and scheme."""
    ours, theirs = measured["active"]
    expected = [
        [{**labels, SCHEME: labels[SCHEME].replace("gopher", "_OTHER")}, value] for labels, value in theirs
    ]
    assert ours == expected
    assert {value for _, value in ours} == {0}
