"""OpenTelemetry's own instrumentation beside ours: the same requests, the same families, and what differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from tests.opentelemetry.pair import DURATION
from tests.web_prom.support import ROOT

STATUS, ERROR, ROUTE = "http_response_status_code", "error_type", "http_route"
METHOD, SCHEME, PROTOCOL = "http_request_method", "url_scheme", "network_protocol_version"

# What we measure otherwise, and mean to: for each request the labels that ours has in the place of theirs.
# docs/how-to/opentelemetry.rst gives the reasons.
RAISED = {ERROR: "LookupError"}
TEMPLATE = {"flask": "/status/<int:code>/", "django": "/status/<int:code>/", "fastapi": "/status/{code}/"}
MEANT: dict[tuple[str, str], dict[str, str]] = {
    # The exception tells more than the status that it ended in.
    ("flask", "raised"): RAISED,
    ("django", "raised"): RAISED,
    ("fastapi", "raised"): RAISED,
    # The server answers 500 for an application that raises.
    ("wsgi", "raised"): {STATUS: "500"},
    # A request is over when its body is: theirs, under WSGI, before it has begun.
    ("wsgi", "broken body"): RAISED,
    ("flask", "broken body"): RAISED,
    ("django", "broken body"): RAISED,
    ("fastapi", "broken body"): RAISED,
    # A redirect to the path with a slash, and a 405, belong to a route.
    ("flask", "slash"): {ROUTE: TEMPLATE["flask"]},
    ("django", "slash"): {ROUTE: TEMPLATE["django"]},
    ("fastapi", "slash"): {ROUTE: TEMPLATE["fastapi"]},
    ("flask", "405"): {ROUTE: TEMPLATE["flask"]},
    ("flask", "odd method"): {ROUTE: TEMPLATE["flask"]},
    # Methods are told apart by case, as HTTP does; a client cannot make a series.
    ("wsgi", "small letters"): {METHOD: "_OTHER"},
    ("wsgi", "odd scheme"): {SCHEME: "_OTHER"},
    ("wsgi", "odd protocol"): {PROTOCOL: ""},
    # The convention's examples call it so.
    ("wsgi", "HTTP/2.0"): {PROTOCOL: "2"},
}


@cache
def measured(framework: str) -> dict[str, Any]:
    """Return what both measured of one framework's application, in a process of their own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PROM", "OTEL_"))}
    done = subprocess.run(
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


FRAMEWORKS = ("wsgi", "flask", "django", "fastapi")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_labels_agree_with_opentelemetry_but_for_known_differences(framework: str) -> None:
    """Once on either side; Django's routes begin with a slash, as those of the others do."""
    found = measured(framework)["requests"]
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


def test_each_known_difference_is_tested() -> None:
    """A request that is no longer made would hide one that is not there any more."""
    made = {(framework, request) for framework in FRAMEWORKS for request in measured(framework)["requests"]}
    assert MEANT.keys() <= made


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_families_agree_with_opentelemetry(framework: str) -> None:
    """Names, types, helps, labels, buckets; sizes, for which none is advised, have buckets of our own."""
    ours, theirs = measured(framework)["families"]
    assert set(theirs) - set(ours) == set()
    for name, family in theirs.items():
        assert family["scope"] == ["otel_scope_name", "otel_scope_schema_url", "otel_scope_version"]
        assert ours[name]["scope"] == []
        for what in ("type", "help", *(["buckets"] if name == DURATION else [])):
            assert ours[name][what] == family[what], (name, what)
        # Theirs has a label from the first request on that needs it; a plain WSGI application has no route.
        assert set(family["labels"]) <= set(ours[name]["labels"])
        assert set(ours[name]["labels"]) - set(family["labels"]) <= (
            {ROUTE} if framework == "wsgi" else set()
        )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_gauges_agree_with_opentelemetry_and_return_to_zero(framework: str) -> None:
    """By method and scheme."""
    ours, theirs = measured(framework)["active"]
    expected = [
        [{**labels, SCHEME: labels[SCHEME].replace("gopher", "_OTHER")}, value] for labels, value in theirs
    ]
    assert ours == expected
    assert {value for _, value in ours} == {0}
