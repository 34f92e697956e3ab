"""The page's own arithmetic agrees with the rules of PromQL."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from random import Random
from typing import Any

import pytest

from tests.live_page.conftest import Pages
from tests.live_page.service import Service
from web_prom.advice.scrapes import Scrape, Window

BOUNDS = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, math.inf]
SEED = 11


def run(pages: Pages, service: Service, script: str, argument: object) -> Any:
    """Call a function with the page's module `model` and an argument."""
    service.interval_seconds = 60.0
    page = pages.open(service.url)
    main = page.locator("script[type=module]").get_attribute("src") or ""
    return page.evaluate(
        f"""async ([address, given]) => {{
            const model = await import(new URL(address, location));
            return ({script})(model, given);
        }}""",
        [main.replace("main.js", "model.js"), argument],
    )


def quantile(counts: list[int], share: float) -> float | None:
    """Return the estimate of the advice of web-prom."""

    def scrape(at: float, values: list[int]) -> Scrape:
        lines = [
            f'wait_bucket{{le="{bound}"}} {value}'
            for bound, value in zip(BOUNDS, accumulate(values), strict=True)
        ]
        return Scrape("\n".join(["# TYPE wait histogram", *lines, ""]).replace("inf", "+Inf"), at)

    return Window(scrape(1, counts), scrape(0, [0] * len(counts))).quantile("wait", share)


def increase(values: list[float]) -> float:
    """Return what PromQL adds up between samples: a counter that went back began again at zero."""
    return sum(now - before if now >= before else now for before, now in pairwise(values))


def test_model_quantiles_are_those_of_promql(pages: Pages, service: Service) -> None:
    random = Random(SEED)
    cases = [
        (
            [random.choice([0, 0, 1, 7, random.randrange(10_000)]) for _ in BOUNDS],
            random.choice([0.5, 0.95, 0.99]),
        )
        for _ in range(300)
    ]
    bounds = [None if bound == math.inf else bound for bound in BOUNDS]

    found = run(
        pages,
        service,
        "(model, [bounds, cases]) => cases.map(([counts, wanted]) => model.quantile(bounds, counts, wanted))",
        [bounds, cases],
    )

    wanted = [quantile(counts, share) for counts, share in cases]
    for case, one, other in zip(cases, found, wanted, strict=True):
        assert one == (None if other is None else pytest.approx(other)), case


def test_model_adds_up_growth_across_resets(pages: Pages, service: Service) -> None:
    random = Random(SEED)
    series = []
    for _ in range(100):
        value, values = 0.0, []
        for _ in range(20):
            value = random.choice([0.0, 1.0, 3.0]) if random.random() < 0.1 else value + random.randrange(50)
            values.append(value)
        series.append(values)

    found = run(
        pages,
        service,
        """(model, all) => all.map(
            (values) => model.sum(values.slice(1).map((now, at) => model.growth(now, values[at]))))""",
        series,
    )

    assert found == [increase(values) for values in series]


def test_model_takes_other_buckets_as_a_new_start(pages: Pages, service: Service) -> None:
    cases = [([1, 2], [1, 1, 1]), ([5, 1, 0], [4, 2, 0]), ([5, 2, 1], [4, 2, 0]), ([5, 2, 1], None)]

    found = run(
        pages, service, "(model, all) => all.map(([now, before]) => model.growthOfCounts(now, before))", cases
    )

    assert found == [[1, 2], [5, 1, 0], [1, 0, 1], [5, 2, 1]]


def test_model_table_of_routes_counts_a_new_route_whole(pages: Pages, service: Service) -> None:
    row = {
        "method": "GET",
        "route": "/",
        "statuses": {"200": 8, "500": 2},
        "exceptions": {},
        "seconds": 1.0,
        "counts": [0, 10],
        "queries": None,
    }
    requests = {"buckets": [0.1, None], "routes": [row], "left_out": 0}
    script = """(model, [now, before]) => model.routeTable(now, before, 5).map(
        (row) => [row.rate, row.errors, row.mean, row.p95, row.queries, row.share])"""

    found = run(pages, service, script, [requests, {**requests, "routes": []}])

    assert found == [[2, 0.2, 0.1, 0.1, None, 1]]
