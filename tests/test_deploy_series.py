"""The numbers of series in docs/how-to/deploy.rst follow from its formulas and match an application."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import prometheus_client
import pytest
from flask import Flask
from prometheus_client import CollectorRegistry

from flask_prom import FlaskProm
from tests.manifests import PAGE

TEXT = PAGE.read_text("utf-8")


def test_series_table_agrees_with_the_formulas() -> None:
    """The formulas themselves are held to a real Prometheus in tests/servers/test_deploy.py."""
    table = TEXT.split("rules add\n=====")[1].split("\n\n")[0].splitlines()[1:-1]
    assert len(table) == 6
    for line in table:
        count, h, b, s, e, r, each, everything, recorded = (
            int(cell.replace(",", "")) for cell in line.split()
        )
        assert each == h * (b + 3) + s + e + 24 + 7 * 4, line
        assert everything == count * (each + 5), line
        assert recorded == s + e + r * (b + 4) + (b + 1) + 6, line
    assert "    h x (b + 3)  +  s  +  e  +  24  +  7 x w\n" in TEXT
    assert "Each replica has 4 workers here." in TEXT
    assert "    s  +  e  +  r x (b + 4)  +  (b + 1)  +  6\n" in TEXT


@pytest.fixture(params=[True, False], ids=["with _created", "without"])
def created(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Have prometheus_client add ``_created`` or not, and say which."""
    with_created = bool(request.param)
    if not with_created:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    yield with_created
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]


# For each setting h, b, and what it adds beside the formula; 4 pairs are asked for, and have 5 statuses.
SETTINGS: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
    ({}, (4, 10, 0)),
    ({"duration_buckets": (0.1, 1)}, (4, 2, 0)),
    ({"duration_status": True}, (5, 10, 0)),
    ({"request_size": True}, (4, 10, 4 * 10)),
    ({"response_size": True}, (4, 10, 4 * 10)),
    ({"first_byte": True}, (4, 10, 4 * 13)),
    ({"queue_time": True}, (4, 10, 13)),
]


@pytest.mark.parametrize(("options", "expected"), SETTINGS, ids=["".join(item[0]) for item in SETTINGS])
def test_page_figures_for_one_process_and_settings_are_right(
    registry: CollectorRegistry, created: bool, options: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    """Counted in a scrape of an application that answers with four pairs, five statuses and one exception."""
    h, b, more = expected
    s, e = 5, 1
    app = Flask("shop")
    FlaskProm(app, registry=registry, **options)
    app.add_url_rule("/", "index", lambda: "hello")
    app.add_url_rule("/items/<int:number>", "item", lambda number: ("", 404 if number == 0 else 200))
    app.add_url_rule("/broken", "broken", lambda: str(1 // 0))
    client = app.test_client()
    for path in ("/", "/items/0", "/items/1", "/broken", "/no/such/page"):
        client.get(path, headers={"X-Request-Start": "t=0.5"})
    text = client.get("/metrics").text
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    if not created:
        assert len(samples) == h * (b + 3) + s + e + 3 + more
        return
    plain = [line for line in samples if not re.match(r"\w+_created\b", line)]
    assert len(plain) == h * (b + 3) + s + e + 3 + more
    if not more:
        assert len(samples) == h * (b + 4) + 2 * s + 2 * e + 3
