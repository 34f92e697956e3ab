"""What a dashboard is: rows of panels with queries. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

GREEN, YELLOW, RED = "green", "yellow", "red"

Kind = Literal["timeseries", "stat", "table", "heatmap", "bargauge"]


@dataclass(frozen=True)
class Query:
    """A query of a panel.

    Attributes:
        expr: The expression in PromQL, with variables of Grafana.
        legend: The name of each series, with labels in double braces.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Limits:
    """Values from which a number needs attention.

    Attributes:
        warning: From here on it is yellow.
        critical: From here on it is red. None for never.
        low: Whether low values are the bad ones: red below ``warning``, yellow below ``critical``.
    """

    warning: float
    critical: float | None = None
    low: bool = False

    def steps(self) -> list[tuple[float | None, str]]:
        """Return the colours in ascending order, each with the value from which it is shown."""
        if self.low:
            assert self.critical is not None
            return [(None, RED), (self.warning, YELLOW), (self.critical, GREEN)]
        critical = [] if self.critical is None else [(self.critical, RED)]
        return [(None, GREEN), (self.warning, YELLOW), *critical]


@dataclass(frozen=True)
class Column:
    """A column of a table with the values of a query.

    Attributes:
        query: What gives the values.
        title: The head of the column.
        unit: The unit of the values, as Grafana names it.
        limits: From where on a value is coloured.
    """

    query: Query
    title: str
    unit: str
    limits: Limits | None = None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel.

    Attributes:
        title: The question or the quantity.
        description: How to read it, and what to do.
        queries: What it shows; empty for a table, which has columns.
        unit: The unit of the values, as Grafana names it.
        kind: The type of the panel.
        width: In columns of 24.
        limits: From where on a value is coloured, and a line is drawn.
        low, high: The ends of the axis. None for those of the values.
        stacked: Whether the series add up to a total.
        columns: The columns of a table after those of the labels.
        labels: The labels that a table has a column for, with their heads.
        route_label: The label whose value links to the dashboard of the route; empty for no link.
        colors: The colours of series by legend.
    """

    title: str
    description: str
    queries: tuple[Query, ...] = ()
    unit: str = "none"
    kind: Kind = "timeseries"
    width: int = 12
    limits: Limits | None = None
    low: float | None = 0
    high: float | None = None
    stacked: bool = False
    columns: tuple[Column, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    route_label: str = ""
    colors: Mapping[str, str] = field(default_factory=dict)

    def all_queries(self) -> tuple[Query, ...]:
        """Return the queries of the panel or of its columns."""
        return self.queries or tuple(column.query for column in self.columns)


@dataclass(frozen=True)
class Row:
    """A row with a title and panels below it, which continue in a new line where the 24 columns are full.

    Attributes:
        title: What the panels are about.
        panels: From left to right.
        height: Of each panel, in units of 30 pixels.
    """

    title: str
    panels: tuple[Panel, ...]
    height: int = 8


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A dashboard.

    Attributes:
        title: The second part of the title.
        purpose: What it is for and where to look first, in Markdown.
        rows: The rows, from top to bottom.
        has_route: Whether it has a variable for the route.
    """

    title: str
    purpose: str
    rows: tuple[Row, ...]
    has_route: bool = False
