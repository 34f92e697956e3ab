"""Name, help, labels and buckets of the family of outgoing requests. This module contains data only.

The name and the labels are those of OpenTelemetry under each ``PROM_NAMING``:
https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpclientrequestduration
"""

from __future__ import annotations

from web_prom.metrics.conventions import OPENTELEMETRY, MetricSpec

ADDRESS_LABEL = "server_address"

MAX_ADDRESSES = 100
"""The number of values of ``server_address``; further servers are ``_overflow``."""

DURATION = MetricSpec(
    name="http_client_request_duration_seconds",
    documentation="Seconds from the start of an outgoing HTTP request to the headers of its response.",
    labels={
        "http_request_method": "method",
        ADDRESS_LABEL: "address",
        "http_response_status_code": "status",
        "error_type": "error",
    },
)

DURATION_BUCKETS = OPENTELEMETRY.duration_buckets
"""In seconds. OpenTelemetry recommends the same for clients and servers."""
