"""The names, labels and buckets of starlette-exporter and of prometheus-fastapi-instrumentator."""

from __future__ import annotations

from web_prom.metrics.namings.flask_exporter import CLIENT_BUCKETS
from web_prom.metrics.namings.model import FurtherFamily, MetricSpec, same_names
from web_prom.metrics.namings.prometheus import PROMETHEUS


def _starlette(name: str, documentation: str, **labels: str) -> MetricSpec:
    return MetricSpec(name=name, documentation=documentation, labels=labels, prefix="starlette")


_STARLETTE_LABELS = {"method": "method", "path": "view", "status_code": "status"}

STARLETTE_EXPORTER = PROMETHEUS._replace(
    requests=_starlette("requests_total", "Total HTTP requests", **_STARLETTE_LABELS),
    duration=_starlette("request_duration_seconds", "HTTP request duration, in seconds", **_STARLETTE_LABELS),
    duration_buckets=CLIENT_BUCKETS,
    in_progress=_starlette(
        "requests_in_progress", "Total HTTP requests currently in progress", method="method"
    ),
    request_size=_starlette("request_body_bytes_total", "Total HTTP request body bytes", **_STARLETTE_LABELS),
    response_size=_starlette(
        "response_body_bytes_total", "Total HTTP response body bytes", **_STARLETTE_LABELS
    ),
    size_kind="counter",
    unmatched="__unknown__",
    defaults={"constant_labels": {"app_name": "starlette"}},
)

_HANDLER = {"handler": "view"}

FASTAPI_INSTRUMENTATOR = PROMETHEUS._replace(
    requests=MetricSpec(
        name="http_requests_total",
        documentation="Total number of requests by method, status and handler.",
        labels={**same_names("method", "status"), **_HANDLER},
    ),
    duration=MetricSpec(
        name="http_request_duration_seconds",
        documentation="Duration of requests with few buckets, by handler.",
        labels={"method": "method", **_HANDLER},
    ),
    duration_buckets=(0.1, 0.5, 1.0),
    in_progress=MetricSpec(
        name="http_requests_inprogress", documentation="Number of HTTP requests in progress.", labels={}
    ),
    request_size=MetricSpec(
        name="http_request_size_bytes",
        documentation="Bytes of the request body that were read, by handler.",
        labels=_HANDLER,
    ),
    response_size=MetricSpec(
        name="http_response_size_bytes",
        documentation="Bytes of the response body that were sent, by handler.",
        labels=_HANDLER,
    ),
    size_kind="summary",
    further=(
        FurtherFamily(
            spec=MetricSpec(
                name="http_request_duration_highr_seconds",
                documentation="Duration of requests with many buckets and no labels.",
                labels={},
            ),
            kind="histogram",
            buckets=(
                *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5),
                *(3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0),
            ),
        ),
    ),
    unmatched="none",
    defaults={"status_classes": True, "request_size": True, "response_size": True},
)
