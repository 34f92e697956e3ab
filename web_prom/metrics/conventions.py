"""Names, help, labels and buckets of all metric families of web-prom, in both namings.

This module contains data only. :mod:`web_prom.metrics.families` creates the families from it. Each label name
is given with the attribute of the request that is its value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

START_ATTRIBUTES = ("method", "scheme", "protocol")
"""Attributes that are known when a request starts."""


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """Name, help and labels of one metric family.

    Attributes:
        name: The family's name, without the namespace.
        documentation: The help text.
        labels: The label names in order, each with the attribute of the request that is its value:
            ``method``, ``scheme`` and ``protocol`` are known when the request starts; ``route`` is the
            route template or ``_unmatched``; ``template`` is the route template or empty; ``status`` is the
            status code; ``error`` is the type of the error, and empty if there was none; ``exception`` is
            the type of the exception in a family that counts exceptions.
    """

    name: str
    documentation: str
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The families of requests under one value of the setting ``PROM_NAMING``.

    Attributes:
        requests: The counter of requests. None if the count of the duration histogram replaces it.
        duration: The histogram of request durations, in seconds.
        duration_buckets: The upper bounds of ``duration``, if the user sets none.
        in_progress: The gauge of requests in progress. All its labels are attributes of the start.
        exceptions: The counter of exceptions. None if ``duration`` has a label for the error.
        request_size, response_size: The histograms of body sizes, in bytes.
        has_numeric_status: Whether the status label must be a number of three digits.
    """

    requests: MetricSpec | None
    duration: MetricSpec
    duration_buckets: tuple[float, ...]
    in_progress: MetricSpec
    exceptions: MetricSpec | None
    request_size: MetricSpec
    response_size: MetricSpec
    has_numeric_status: bool

    @property
    def start_attributes(self) -> tuple[str, ...]:
        """The attributes that must be read when a request starts."""
        attributes = self.duration.labels.values()
        return tuple(attribute for attribute in START_ATTRIBUTES if attribute in attributes)

    @property
    def has_error_label(self) -> bool:
        """Whether the families that are written for each request have a label for the error."""
        return "error" in self.duration.labels.values()

    @property
    def labels(self) -> frozenset[str]:
        """The label names of all its families."""
        families = (self.requests, self.duration, self.in_progress, self.request_size, self.response_size)
        return frozenset(label for family in families if family for label in family.labels)


def same_names(*labels: str) -> dict[str, str]:
    """Return labels that have the names of their attributes."""
    return dict(zip(labels, labels, strict=True))


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

NAMINGS: Mapping[str, Naming] = {"prometheus": PROMETHEUS, "opentelemetry": OPENTELEMETRY}
"""The namings by the value of the setting ``PROM_NAMING``."""

# The families below are in no convention. They keep their names and labels under each naming.

DEFAULT_SIZE_BUCKETS = (100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
"""Upper bounds of the histograms of body sizes, in bytes, if the user sets none."""

FIRST_BYTE = MetricSpec(
    name="http_response_first_byte_seconds",
    documentation="Seconds from the call of the application to the first byte of the response body.",
    labels=same_names("method", "route"),
)

QUEUE_TIME = MetricSpec(
    name="http_request_queue_seconds",
    documentation="Seconds that a request waited for a worker.",
    labels={},
)

QUEUE_TIME_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""In seconds. A request can wait longer in a queue than it should take to be served."""

WEBSOCKETS_IN_PROGRESS = MetricSpec(
    name="websocket_connections_in_progress",
    documentation="WebSocket connections that are open now.",
    labels={},
)

WEBSOCKETS = MetricSpec(
    name="websocket_connections_total",
    documentation="WebSocket connections that came to their end.",
    labels=same_names("route", "code"),
)

WEBSOCKET_DURATION = MetricSpec(
    name="websocket_connection_duration_seconds",
    documentation="Seconds from the call of the application to the end of the WebSocket connection.",
    labels=same_names("route"),
)

WEBSOCKET_DURATION_BUCKETS = (1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 43200.0, 86400.0)
"""In seconds. A WebSocket is open as long as a user has the page open: from a second to a day."""

WEBSOCKET_MESSAGES = MetricSpec(
    name="websocket_messages_total",
    documentation="WebSocket messages received and sent.",
    labels=same_names("route", "direction"),
)

ERRORS = MetricSpec(
    name="web_prom_instrumentation_errors_total",
    documentation="Errors in the instrumentation itself, by what it was doing; the requests went on.",
    labels=same_names("stage"),
)

LABEL_OVERFLOW = MetricSpec(
    name="web_prom_label_overflow_total",
    documentation=(
        "Observations counted under _overflow because the family had PROM_MAX_LABEL_SETS label sets."
    ),
    labels=same_names("family"),
)
