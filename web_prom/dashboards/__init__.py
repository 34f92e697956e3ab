"""Dashboards for Grafana, made from the names of the families."""

from __future__ import annotations

from web_prom.dashboards.build import DASHBOARDS, build_dashboard
from web_prom.dashboards.options import DashboardOptions

__all__ = ["DASHBOARDS", "DashboardOptions", "build_dashboard"]
