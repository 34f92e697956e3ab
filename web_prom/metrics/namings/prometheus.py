"""The default naming of the families of requests: Prometheus's usual names."""

from __future__ import annotations

from web_prom.metrics.namings.model import MetricSpec, Naming, same_names

PROMETHEUS = Naming(
    requests=MetricSpec(
        name="http_requests_total",
        documentation="HTTP requests finished.",
        labels=same_names("method", "route", "status"),
    ),
    duration=MetricSpec(
        name="http_request_duration_seconds",
        documentation="Seconds from the call of the application to the end of the response body.",
        labels=same_names("method", "route"),
    ),
    duration_buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    in_progress=MetricSpec(
        name="http_requests_in_progress", documentation="HTTP requests being served now.", labels={}
    ),
    exceptions=MetricSpec(
        name="http_request_exceptions_total",
        documentation=(
            "Exceptions that left a view and ended in a server error, in no response, or in a broken body."
        ),
        labels=same_names("method", "route", "exception"),
    ),
    request_size=MetricSpec(
        name="http_request_size_bytes",
        documentation="Bytes of the request body that were read.",
        labels=same_names("method", "route"),
    ),
    response_size=MetricSpec(
        name="http_response_size_bytes",
        documentation="Bytes of the response body that were sent.",
        labels=same_names("method", "route"),
    ),
    has_numeric_status=False,
)
