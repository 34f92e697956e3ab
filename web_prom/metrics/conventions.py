"""The names of the families of requests: Prometheus's way, or by OpenTelemetry's conventions.

What is here is data. The families are made of it by :mod:`web_prom.metrics.families`, and the recorder finds
the values of their labels by the facts that stand here beside each label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

START_ATTRIBUTES = ("method", "scheme", "protocol")
"""Facts that are known when a request begins."""


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """How a family of requests is called.

    Attributes:
        name: The family's.
        documentation: Its help.
        labels: The names of its labels in order, each with the fact that it tells of a request: ``method``,
            ``scheme`` and ``protocol`` of its beginning; ``route``, the template or ``_unmatched``;
            ``template``, the same or nothing; ``status``; ``error``, nothing where there was none;
            ``exception``, of a family that counts those.
    """

    name: str
    documentation: str
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The families of requests, as a user may choose to have them named.

    Attributes:
        requests: The counter of requests; None where the histogram's own count is all there is.
        duration: The histogram of their duration, in seconds.
        duration_buckets: Its upper bounds, where the user has none of their own.
        in_progress: The gauge of those that are served now; its labels tell facts of the beginning alone.
        exceptions: The counter of exceptions; None where ``duration`` tells the error.
        request_size, response_size: The histograms of bodies, in bytes.
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
        """The facts that have to be known of a request when it begins."""
        told = self.duration.labels.values()
        return tuple(attribute for attribute in START_ATTRIBUTES if attribute in told)

    @property
    def has_error_label(self) -> bool:
        """Whether the families that are written for each request have a label for what went wrong."""
        return "error" in self.duration.labels.values()

    @property
    def labels(self) -> frozenset[str]:
        """The labels of all its families."""
        families = (self.requests, self.duration, self.in_progress, self.request_size, self.response_size)
        return frozenset(label for family in families if family for label in family.labels)


def same(*labels: str) -> dict[str, str]:
    """Return labels that have the names of the facts that they tell."""
    return dict(zip(labels, labels, strict=True))


PROMETHEUS = Naming(
    requests=MetricSpec(
        name="http_requests_total",
        documentation="HTTP requests finished.",
        labels=same("method", "route", "status"),
    ),
    duration=MetricSpec(
        name="http_request_duration_seconds",
        documentation="Seconds from the call of the application to the end of the response body.",
        labels=same("method", "route"),
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
        labels=same("method", "route", "exception"),
    ),
    request_size=MetricSpec(
        name="http_request_size_bytes",
        documentation="Bytes of the request body that were read.",
        labels=same("method", "route"),
    ),
    response_size=MetricSpec(
        name="http_response_size_bytes",
        documentation="Bytes of the response body that were sent.",
        labels=same("method", "route"),
    ),
    has_numeric_status=False,
)

# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/: all that is required of a server, and
# what is recommended. network.protocol.name is asked for only where it is not http; server.address and
# server.port are opt-in, because a client can write anything into its Host header.
_ATTRIBUTES: Mapping[str, str] = {
    "http_request_method": "method",
    "url_scheme": "scheme",
    "error_type": "error",
    "http_response_status_code": "status",
    "http_route": "template",
    "network_protocol_version": "protocol",
}

# Names as its exporter for Prometheus writes them: dots become underscores, the unit stands at the end.
OPENTELEMETRY = Naming(
    requests=None,
    duration=MetricSpec(
        name="http_server_request_duration_seconds",
        documentation="Duration of HTTP server requests.",
        labels=_ATTRIBUTES,
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
        labels=_ATTRIBUTES,
    ),
    response_size=MetricSpec(
        name="http_server_response_body_size_bytes",
        documentation="Size of HTTP server response bodies.",
        labels=_ATTRIBUTES,
    ),
    has_numeric_status=True,
)

NAMINGS: Mapping[str, Naming] = {"prometheus": PROMETHEUS, "opentelemetry": OPENTELEMETRY}
"""What a user may choose, by the value of the setting."""
