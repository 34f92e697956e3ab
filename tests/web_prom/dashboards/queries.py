"""The queries of a dashboard, and what Grafana makes of them before it sends them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import promql_parser

_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)", re.DOTALL)


class Asked(NamedTuple):
    """A query.

    Attributes:
        title: The title of the panel and the legend, or the name of the annotation or variable.
        expr: The expression, or the selector of a variable's series.
        instant: Whether one value is asked for, and not one for each step.
        label: The label whose values a variable has; empty for the others.
    """

    title: str
    expr: str
    instant: bool = False
    label: str = ""


def queries(dashboard: Mapping[str, Any]) -> Iterator[Asked]:
    """Yield each query of a dashboard: of panels, annotations and variables."""
    for panel in dashboard["panels"]:
        columns = [
            override["matcher"]["options"]
            for override in panel.get("fieldConfig", {}).get("overrides", ())
            if panel["type"] == "table"
        ]
        for index, target in enumerate(panel.get("targets", ())):
            part = columns[index] if columns else target["legendFormat"]
            yield Asked(f"{panel['title']}: {part}", target["expr"], target["instant"])
    for annotation in dashboard["annotations"]["list"]:
        assert annotation["expr"] == annotation["target"]["expr"]
        yield Asked(f"annotation: {annotation['name']}", annotation["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = _LABEL_VALUES.fullmatch(variable["query"]["query"])
            assert found, variable
            yield Asked(f"variable: {variable['name']}", found[1], label=found[2])


def interpolate(expr: str, variables: Mapping[str, str]) -> str:
    """Return an expression with values in the place of variables, as Grafana sends it."""
    text = re.sub(r"\$(\w+)", lambda found: variables.get(found[1], found[0]), expr)
    left = set(re.findall(r"\$\w+", text)) - {"$1"}  # a group of label_replace
    assert not left, left
    return text


EXAMPLE = {
    "job": "shop",
    "instance": ".*",
    "route": ".*",
    "__rate_interval": "1m0s",
    "__range": "3600s",
}
"""Values of the variables for a query that is only parsed."""


class Selected(NamedTuple):
    """The selectors and groupings of an expression.

    Attributes:
        series: The names of the series with the names of the labels that are matched.
        groups: The names of the labels that results are grouped by.
    """

    series: list[tuple[str, set[str]]]
    groups: set[str]


def selected(expr: str) -> Selected:
    """Parse an expression, and return what it selects."""
    series: list[tuple[str, set[str]]] = []
    groups: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            series.append((str(node.name), {matcher.name for matcher in node.matchers.matchers}))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            groups.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(expr), visit)
    return Selected(series, groups)
