"""The dashboard of a service has WebSockets."""

from __future__ import annotations

from tests.web_prom.dashboards.queries import EXAMPLE, interpolate, queries, selected
from web_prom.dashboards import DashboardOptions, build_dashboard


def test_dashboard_of_a_service_has_the_families_of_websockets() -> None:
    names = {
        series
        for each in queries(build_dashboard("service", DashboardOptions(namespace="shop")))
        for series, _ in selected(interpolate(each.expr, EXAMPLE)).series
    }

    assert {
        "shop_websocket_connections_in_progress",
        "shop_websocket_connections_total",
        "shop_websocket_messages_total",
    } <= names
