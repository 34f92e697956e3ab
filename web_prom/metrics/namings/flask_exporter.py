"""The names, labels and buckets of prometheus-flask-exporter, for its three usual values of ``group_by``."""

from __future__ import annotations

from web_prom.metrics.namings.model import MetricSpec, Naming
from web_prom.metrics.namings.prometheus import PROMETHEUS

CLIENT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The default buckets of prometheus_client's histograms."""


def _spec(name: str, documentation: str, **labels: str) -> MetricSpec:
    return MetricSpec(name=name, documentation=documentation, labels=labels, prefix="flask")


def _duration(label: str, attribute: str) -> MetricSpec:
    labels = {"method": "method", label: attribute, "status": "status"}
    return _spec("http_request_duration_seconds", "Flask HTTP request duration in seconds", **labels)


by_path = PROMETHEUS._replace(
    requests=_spec("http_request_total", "Total number of HTTP requests", method="method", status="status"),
    duration=_duration("path", "view"),
    duration_buckets=CLIENT_BUCKETS,
    exceptions=_spec(
        "http_request_exceptions_total",
        "Total number of HTTP requests which resulted in an exception",
        method="method",
        status="status",
    ),
    info=_spec("exporter_info", "Information about the Prometheus Flask exporter", version="version"),
)

by_url_rule: Naming = by_path._replace(duration=_duration("url_rule", "view"), unmatched="None")

by_endpoint: Naming = by_path._replace(
    duration=_duration("endpoint", "view"), unmatched="None", request_attributes=("view",)
)
