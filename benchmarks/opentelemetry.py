"""The setup of OpenTelemetry: the SDK's metrics with a reader in memory, and no tracer provider."""

from __future__ import annotations

from typing import Any

from web_prom.multiprocess.writing.activation import is_shared


def meter_provider() -> Any:
    """Return the SDK's meter provider.

    Raises:
        NotImplementedError: The process writes values that workers share.
    """
    if is_shared():
        raise NotImplementedError("it has no values that several workers share")

    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    return MeterProvider(metric_readers=[InMemoryMetricReader()])
