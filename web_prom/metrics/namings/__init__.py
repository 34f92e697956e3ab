"""The namings of the families of requests: data only."""

from __future__ import annotations

from collections.abc import Mapping

from web_prom.metrics.namings import asgi_exporters, django_prometheus, flask_exporter
from web_prom.metrics.namings.model import MetricSpec, Naming, same_names
from web_prom.metrics.namings.opentelemetry import OPENTELEMETRY
from web_prom.metrics.namings.prometheus import PROMETHEUS

__all__ = ["NAMINGS", "OPENTELEMETRY", "PROMETHEUS", "MetricSpec", "Naming", "same_names"]

NAMINGS: Mapping[str, Naming] = {
    "prometheus": PROMETHEUS,
    "opentelemetry": OPENTELEMETRY,
    "prometheus-flask-exporter": flask_exporter.by_path,
    "prometheus-flask-exporter:endpoint": flask_exporter.by_endpoint,
    "prometheus-flask-exporter:url_rule": flask_exporter.by_url_rule,
    "django-prometheus": django_prometheus.DJANGO_PROMETHEUS,
    "starlette-exporter": asgi_exporters.STARLETTE_EXPORTER,
    "fastapi-instrumentator": asgi_exporters.FASTAPI_INSTRUMENTATOR,
}
"""The namings by the value of the setting ``PROM_NAMING``."""
