"""Tests of other libraries, run with web-prom in the place of the library.

The lists below name the tests that fail with web-prom, with the reason. A list that is out of date is a
failure. A test that is in no list and fails must fail with the library too: it says nothing about web-prom.

Not run: of prometheus-flask-exporter ``test_blueprint.py`` and ``test_extensions.py``, which test decorators,
and classes for Flask-RESTful and for many workers; of starlette-exporter ``test_routing.py`` and
``test_fastapi_routing.py``, which call an internal function. The tests in django-prometheus's archive are
about its cursors, its server and its helpers for tests, and none is about the output. The archive of
prometheus-fastapi-instrumentator has no tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.migration.their_tests import run_tests
from tests.sdists import fetch_sdist

pytestmark = pytest.mark.slow

DECORATORS = "metrics of decorators and metrics.info() are not imitated"
SUMMARY = "durations are a histogram"
PATHS = "a path is a route template"
EXCLUDED = "excluded paths are route templates"
OUTSIDE = "an object serves metrics of its own"

FLASK = {
    **dict.fromkeys(
        (
            "DefaultsTest.test_default_labels",
            "DefaultsTest.test_do_not_track_only_excludes_defaults",
            "DefaultsTest.test_exclude_all_wrapping",
            "DefaultsTest.test_info",
            "DefaultsTest.test_invalid_labels",
            "DefaultsTest.test_response_object",
            "DefaultsTest.test_static_labels",
            "DefaultsTest.test_static_labels_without_metric_labels",
            "EndpointTest.test_abort",
            "EndpointTest.test_error_handler",
            "EndpointTest.test_exception",
            "EndpointTest.test_named_endpoint",
            "EndpointTest.test_track_more_defaults",
            "EndpointTest.test_track_multiple_endpoints",
            *(
                f"{kind}InitializationTest.test_initial_value_{case}"
                for kind in ("Counter", "Gauge", "Histogram", "Summary")
                for case in (
                    *("callable_label", "no_labels", "only_static_labels"),
                    "only_static_labels_no_initialization",
                )
            ),
            *(f"MetricsTest.test_{kind}" for kind in ("counter", "gauge", "histogram", "summary")),
        ),
        DECORATORS,
    ),
    "DefaultsTest.test_latencies_as_summary": SUMMARY,
    "GroupByTest.test_group_by_path_default_with_summaries": SUMMARY,
    "GroupByTest.test_group_by_path": PATHS,
    "GroupByTest.test_group_by_path_default": PATHS,
    "GroupByTest.test_group_by_full_path": PATHS,
    "GroupByTest.test_group_by_func": "a function is an extra label",
    "GroupByTest.test_group_by_endpoint_deprecated": "deprecated arguments are not imitated",
    "EndpointTest.test_excluded_endpoints": EXCLUDED,
    "EndpointTest.test_multiple_excluded_endpoints": EXCLUDED,
    "EndpointTest.test_exclude_paths_from_user_metrics": EXCLUDED,
    "DefaultsTest.test_custom_metrics_decorator": "access to scrapes has settings",
    "DefaultsTest.test_no_defaults_prefix": "there is always a prefix",
    **dict.fromkeys(
        (
            "DefaultsTest.test_export_latencies_as_summary__F220",
            "DefaultsTest.test_late_defaults_export__F220",
            "DefaultsTest.test_no_default_export",
            "DefaultsTest.test_non_automatic_endpoint_registration",
            "EndpointTest.test_generate_metrics_content",
            "EndpointTest.test_http_server",
            "GroupByTest.test_group_by_deprecated_late_warning",
        ),
        OUTSIDE,
    ),
}

UNKNOWN = "unknown URLs have one path"
MOUNTS = "the route of a mounted application ends in its pattern"
EXEMPLARS = "there are no exemplars"

STARLETTE = {
    "TestMiddleware.test_404_filter_unhandled_paths_off": UNKNOWN,
    "TestMiddleware.test_mounted_path_404": UNKNOWN,
    "TestMiddlewareGroupedPaths.test_mounted_path_404_unfiltered": UNKNOWN,
    "TestMiddleware.test_ungrouped_paths": PATHS,
    "TestMiddleware.test_staticfiles_path": PATHS,
    "TestMiddlewareGroupedPaths.test_staticfiles_path": MOUNTS,
    "TestMiddlewareGroupedPaths.test_custom_root_path": MOUNTS,
    "TestMiddleware.test_multi_prefix": "applications with two namespaces need two registries",
    "TestMiddleware.test_requests_in_progress": "scrapes are not counted",
    "TestMiddleware.test_skip_paths__re": EXCLUDED,
    "TestMiddleware.test_skip_methods": "methods cannot be excluded",
    "TestOptionalMetrics.test_receive_body_size": "only bytes that are read count",
    "TestDefaultLabels.test_async_callable": "the function of a label is not asynchronous",
    "TestExemplars.test_exemplar": EXEMPLARS,
    "TestExemplars.test_exemplar_request[False]": EXEMPLARS,
    "TestExemplars.test_exemplar_request[True]": EXEMPLARS,
}


def check(
    files: Sequence[Path], base: Sequence[str], shim: str, expected: dict[str, str], reports: Path
) -> None:
    ours = run_tests(files, [*base, shim], reports / "ours.xml")
    failed = {test for test, outcome in ours.items() if outcome != "passed"}
    assert len(ours) > len(failed)
    unlisted = failed - expected.keys()
    if unlisted:
        names = [test.rsplit(".", 1)[1] for test in unlisted]
        theirs = run_tests(files, base, reports / "theirs.xml", names)
        assert {test: ours[test] for test in unlisted if theirs[test] == "passed"} == {}
    assert sorted(expected.keys() - failed) == [], "these tests pass, or do not exist any more"


def test_tests_of_flask_exporter(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    tests = fetch_sdist("prometheus-flask-exporter", request) / "tests"
    names = ("app_factory", "defaults", "endpoint", "group_by", "metric_initialization", "metrics")
    files = [tests / f"test_{name}.py" for name in names]
    check(files, ["flask_helper"], "flask_shim", FLASK, tmp_path)


def test_tests_of_starlette_exporter(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    tests = fetch_sdist("starlette-exporter", request) / "tests"
    static = tests / "static" / "test.txt"  # not in the archive
    static.parent.mkdir(exist_ok=True)
    static.write_text("test")
    check([tests / "test_middleware.py"], [], "starlette_shim", STARLETTE, tmp_path)
