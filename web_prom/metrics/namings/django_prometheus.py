"""The names, labels and buckets of django-prometheus."""

from __future__ import annotations

from web_prom.metrics.namings.django_operations import TRANSLATIONS
from web_prom.metrics.namings.model import FurtherFamily, MetricSpec, same_names
from web_prom.metrics.namings.prometheus import PROMETHEUS

_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 25.0, 50.0, 75.0),
)

_SIZE_BUCKETS = (0.0, *(float(2**exponent) for exponent in range(30)))


def _spec(name: str, documentation: str, *labels: str, **renamed: str) -> MetricSpec:
    return MetricSpec(
        name=f"django_http_{name}",
        documentation=documentation,
        labels={**same_names(*labels), **renamed},
    )


def _counter(name: str, documentation: str, *labels: str, condition: str = "") -> FurtherFamily:
    return FurtherFamily(spec=_spec(name, documentation, *labels), condition=condition)


DJANGO_PROMETHEUS = PROMETHEUS._replace(
    requests=_spec(
        "responses_total_by_status_view_method",
        "Count of responses by status, view, method.",
        *("status", "view", "method"),
    ),
    duration=_spec(
        "requests_latency_seconds_by_view_method",
        "Histogram of request processing time labelled by view.",
        *("view", "method"),
    ),
    duration_buckets=_BUCKETS,
    exceptions=_spec("exceptions_total_by_type", "Count of exceptions by object type.", type="exception"),
    further_exceptions=(_spec("exceptions_total_by_view", "Count of exceptions by view.", "view"),),
    counts_handled_exceptions=True,
    request_size=_spec("requests_body_total_bytes", "Histogram of requests by body size."),
    response_size=_spec("responses_body_total_bytes", "Histogram of responses by body size."),
    further=(
        _counter("requests_before_middlewares_total", "Total count of requests before middlewares run."),
        _counter("responses_before_middlewares_total", "Total count of responses before middlewares run."),
        FurtherFamily(
            spec=_spec(
                "requests_latency_including_middlewares_seconds",
                "Histogram of requests processing time (including middleware processing time).",
            ),
            kind="histogram",
        ),
        _counter(
            "requests_unknown_latency_including_middlewares_total",
            "Count of requests for which the latency was unknown; always 0.",
            condition="unknown_latency",
        ),
        _counter(
            "requests_unknown_latency_total",
            "Count of requests for which the latency was unknown; always 0.",
            condition="unknown_latency",
        ),
        _counter("ajax_requests_total", "Count of AJAX requests.", condition="ajax"),
        _counter("requests_total_by_method", "Count of requests by method.", "method"),
        _counter(
            "requests_total_by_transport",
            "Count of requests by transport.",
            "transport",
            condition="transport",
        ),
        _counter(
            "requests_total_by_view_transport_method",
            "Count of requests by view, transport, method.",
            *("view", "transport", "method"),
            condition="template",
        ),
        _counter(
            "responses_total_by_templatename",
            "Count of responses by template name.",
            "templatename",
            condition="templatename",
        ),
        _counter("responses_total_by_status", "Count of responses by status.", "status"),
        _counter(
            "responses_total_by_charset", "Count of responses by charset.", "charset", condition="charset"
        ),
        _counter("responses_streaming_total", "Count of streaming responses.", condition="streaming"),
    ),
    unmatched="<unnamed view>",
    other_method="<invalid method>",
    request_attributes=(
        "view",
        "transport",
        "ajax",
        "templatename",
        "charset",
        "streaming",
        "unknown_latency",
    ),
    translations=TRANSLATIONS,
    defaults={"request_size": True, "response_size": True, "size_buckets": _SIZE_BUCKETS},
)
