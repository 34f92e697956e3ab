"""The naming of the families of requests by OpenTelemetry's semantic conventions."""

from __future__ import annotations

from collections.abc import Mapping

from web_prom.metrics.namings.model import MetricSpec, Naming

# The required and recommended attributes of a server:
# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/. network.protocol.name is required only if
# it is not http. server.address and server.port are opt-in, because a client can write anything into its
# Host header.
_OPENTELEMETRY_LABELS: Mapping[str, str] = {
    "http_request_method": "method",
    "url_scheme": "scheme",
    "error_type": "error",
    "http_response_status_code": "status",
    "http_route": "template",
    "network_protocol_version": "protocol",
}

# Names as OpenTelemetry's exporter for Prometheus writes them: underscores for dots, and the unit at the end.
OPENTELEMETRY = Naming(
    requests=None,
    duration=MetricSpec(
        name="http_server_request_duration_seconds",
        documentation="Duration of HTTP server requests.",
        labels=_OPENTELEMETRY_LABELS,
    ),
    duration_buckets=(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    in_progress=MetricSpec(
        name="http_server_active_requests",
        documentation="Number of active HTTP server requests.",
        labels={"http_request_method": "method", "url_scheme": "scheme"},
    ),
    exceptions=None,
    request_size=MetricSpec(
        name="http_server_request_body_size_bytes",
        documentation="Size of HTTP server request bodies.",
        labels=_OPENTELEMETRY_LABELS,
    ),
    response_size=MetricSpec(
        name="http_server_response_body_size_bytes",
        documentation="Size of HTTP server response bodies.",
        labels=_OPENTELEMETRY_LABELS,
    ),
    has_numeric_status=True,
)
