"""The same orders of a shop, measured by prometheus_client with web-prom, and by OpenTelemetry's SDK.

::

    pip install opentelemetry-exporter-prometheus opentelemetry-instrumentation-wsgi
    python opentelemetry_beside.py

It prints what Prometheus would read of both, and then a table of their families, those of web-prom in both
namings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from web_prom.wsgi import PrometheusMiddleware, set_route

# Without it the instrumentation uses names that are older than the stable convention. It is read once.
os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

STOCK = {"teapot": 7, "kettle": 0}
ORDERS = [("card", 39, 0.3), ("card", 240, 0.1), ("invoice", 59, 0.2)]
EUROS = (10, 25, 50, 100, 250)

Environ = dict[str, Any]


def shop(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve the shop's pages."""
    set_route(environ, "/products/<number>")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "7")])
    return [b"teapot\n"]


class Shelves(Collector):
    """Collects the stock at each scrape."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the number of pieces of each product."""
        family = GaugeMetricFamily("shop_stock", "Pieces in stock.", labels=["product"])
        for product, pieces in STOCK.items():
            family.add_metric([product], pieces)
        yield family


def by_prometheus(registry: CollectorRegistry, naming: str) -> Callable[..., Any]:
    """Measure the orders with prometheus_client, and return the shop measured by web-prom."""
    orders = Counter("shop_orders", "Orders placed.", ["payment"], registry=registry)
    checkouts = Gauge("shop_checkouts_in_progress", "Checkouts in progress.", registry=registry)
    euros = Histogram("shop_order_euros", "Value of an order.", registry=registry, buckets=EUROS)
    payment_seconds = Summary("shop_payment_seconds", "Seconds that a payment took.", registry=registry)
    registry.register(Shelves())
    for payment, amount, seconds in ORDERS:
        checkouts.inc()
        payment_seconds.observe(seconds)
        orders.labels(payment).inc()
        euros.observe(amount)
        checkouts.dec()
    checkouts.inc()  # one more checkout has started
    return PrometheusMiddleware(shop, registry=registry, naming=naming)


def by_opentelemetry() -> Callable[..., Any]:
    """Measure the orders with OpenTelemetry's SDK, and return the shop measured by its instrumentation."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider

    def shelves(_options: CallbackOptions) -> Iterator[Observation]:
        return (Observation(pieces, {"product": product}) for product, pieces in STOCK.items())

    # Both options shorten the output: otherwise each series has labels of the instrumentation's scope.
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False)
    provider = MeterProvider(metric_readers=[reader])
    meter = provider.get_meter("shop")
    orders = meter.create_counter("shop.orders", unit="{order}", description="Orders placed.")
    checkouts = meter.create_up_down_counter(
        "shop.checkouts_in_progress", unit="{checkout}", description="Checkouts in progress."
    )
    euros = meter.create_histogram(
        "shop.order",
        unit="euros",
        description="Value of an order.",
        explicit_bucket_boundaries_advisory=EUROS,
    )
    # OpenTelemetry has no Summary. A histogram without buckets has the same sum and count.
    payment_seconds = meter.create_histogram(
        "shop.payment",
        unit="s",
        description="Seconds that a payment took.",
        explicit_bucket_boundaries_advisory=[],
    )
    meter.create_observable_gauge("shop.stock", [shelves], unit="{piece}", description="Pieces in stock.")
    for payment, amount, seconds in ORDERS:
        checkouts.add(1)
        payment_seconds.record(seconds)
        orders.add(1, {"payment": payment})
        euros.record(amount)
        checkouts.add(-1)
    checkouts.add(1)
    wrapped: Callable[..., Any] = OpenTelemetryMiddleware(shop, meter_provider=provider)
    return wrapped


def visit(app: Callable[..., Any]) -> None:
    """Send one request for a product, as a server does."""
    environ: Environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/products/1", "SERVER_PROTOCOL": "HTTP/1.1"}
    setup_testing_defaults(environ)
    body = app(environ, lambda status, headers, exc_info=None: lambda data: None)
    for _ in body:
        pass
    getattr(body, "close", lambda: None)()


def lines(registry: CollectorRegistry) -> Iterator[str]:
    """Yield the lines of a scrape about the shop. Of histograms only sum and count."""
    for line in generate_latest(registry).decode().splitlines():
        if line.startswith(("shop_", "http_")) and "_bucket{" not in line and "_created" not in line:
            yield line


def types(registry: CollectorRegistry) -> dict[str, str]:
    """Return the types of the families by their names at /metrics."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in registry.collect()
        if family.name.startswith(("shop_", "http_"))
    }


def main() -> None:
    """Print both scrapes, and the families of all three."""
    ours = {naming: CollectorRegistry() for naming in ("prometheus", "opentelemetry")}
    for app in (*[by_prometheus(registry, naming) for naming, registry in ours.items()], by_opentelemetry()):
        visit(app)
    print("=== prometheus_client and web-prom\n", *lines(ours["prometheus"]), sep="\n")
    print("\n=== OpenTelemetry's SDK and instrumentation\n", *lines(REGISTRY), sep="\n")
    columns = [*map(types, ours.values()), types(REGISTRY)]
    print(f"\n{'':37}{'web-prom':11}{'web-prom,':14}OpenTelemetry")
    print(f"{'family':48}{'opentelemetry'}")
    for name in sorted(set().union(*columns)):
        first, second, third = (column.get(name, "-") for column in columns)
        print(f"{name:37}{first:11}{second:14}{third}")


if __name__ == "__main__":
    main()
