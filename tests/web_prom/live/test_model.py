"""What is computed from snapshots: the page's ``model.js`` computes the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest

from tests.pages import ROOT
from tests.web_prom.cli.services import shop
from web_prom.live import model
from web_prom.live.snapshot import SnapshotReader


def snapshot(at: float, **options: Any) -> dict[str, Any]:
    return SnapshotReader("shop", 5).read(shop(**options).encode(), at)


def step(before: dict[str, Any], after: dict[str, Any]) -> model.Step:
    return model.between(model.point_of(before), model.point_of(after))


@pytest.mark.parametrize(("now", "before", "grown"), [(5, 3, 2), (3, 3, 0), (2, 3, 2)])
def test_growth_takes_a_counter_that_went_back_as_one_that_began_at_zero(
    now: float, before: float, grown: float
) -> None:
    assert model.growth(now, before) == grown


def test_growth_of_counts_a_new_counter_whole() -> None:
    assert model.growth_of({"a": 5.0, "b": 2.0}, {"a": 3.0}) == {"a": 2.0, "b": 2.0}
    assert model.growth_of({"a": 5.0}, None) == {"a": 5.0}


@pytest.mark.parametrize(
    ("now", "before", "grown"),
    [
        ([1.0, 5.0], [1.0, 3.0], [0.0, 2.0]),
        ([1.0, 2.0], [1.0, 3.0], [1.0, 2.0]),  # one bucket went back, so all did
        ([1.0, 2.0, 3.0], [1.0, 1.0], [1.0, 2.0, 3.0]),  # other buckets
        ([1.0], None, [1.0]),
    ],
)
def test_growth_of_counts_compares_whole_histograms(
    now: list[float], before: list[float] | None, grown: list[float]
) -> None:
    assert model.growth_of_counts(now, before) == grown


@pytest.mark.parametrize(
    ("counts", "wanted", "expected"),
    [
        ([10.0, 0.0, 0.0], 0.5, 0.5),
        ([10.0, 10.0, 0.0], 0.75, 1.5),
        ([0.0, 0.0, 4.0], 0.5, 2.0),  # above the highest bound
        ([0.0, 0.0, 0.0], 0.5, None),
    ],
)
def test_quantile_is_linear_within_a_bucket(
    counts: list[float], wanted: float, expected: float | None
) -> None:
    assert model.quantile([1.0, 2.0, None], counts, wanted) == expected


def test_between_gives_rates_of_each_second() -> None:
    found = step(snapshot(100, requests=10), snapshot(105, requests=30, failed=5))
    assert (found.elapsed, found.requests, found.failed) == (5, 20, 5)
    assert (found.rate, found.errors) == (4, 0.25)
    assert (found.utilisation, found.queue_mean, found.cpu, found.memory) == (None, None, None, 64e6)


def test_accumulate_counts_a_reset_in_the_middle() -> None:
    snapshots = [snapshot(100, requests=10), snapshot(105, requests=30), snapshot(110, requests=6)]
    steps = [step(snapshots[0], snapshots[1]), step(snapshots[1], snapshots[2])]
    found = model.accumulate(steps)
    assert found is not None
    assert (found.requests, found.elapsed, found.counts[1]) == (26, 10, 26)
    assert model.accumulate([]) is None


def test_route_table_compares_two_snapshots() -> None:
    before = snapshot(100, requests=10)["requests"]
    (row,) = model.route_table(snapshot(110, requests=30, failed=5)["requests"], before, 10)
    assert (row.key, row.requests, row.rate, row.errors, row.share) == ("GET /orders", 20, 2, 0.25, 1)
    assert row.p95 == pytest.approx(0.0955)
    assert (row.queries, row.repeated) == (None, None)
    assert model.route_table(before, before, 10) == []


def test_route_table_without_an_earlier_snapshot_is_since_the_start() -> None:
    (row,) = model.route_table(snapshot(100, requests=10)["requests"], None, 0)
    assert (row.requests, row.rate) == (10, None)


def test_model_has_the_functions_of_the_page() -> None:
    script = (ROOT / "web_prom" / "live" / "assets" / "model.js").read_text("utf-8")
    for name in ("growth", "growthOf", "growthOfCounts", "quantile", "pointOf", "between", "routeTable"):
        assert re.search(rf"^export function {name}\(", script, re.MULTILINE)
        assert hasattr(model, re.sub(r"([A-Z])", lambda found: f"_{found[0].lower()}", name))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_quantile_equals_that_of_the_page() -> None:
    module = (ROOT / "web_prom" / "live" / "assets" / "model.js").as_uri()
    code = f'import {{ quantile }} from "{module}"; console.log(quantile([0.1, 0.5, null], [3, 5, 2], 0.7));'
    done = subprocess.run(
        ["node", "--experimental-default-type=module", "--input-type=module", "-e", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        pytest.skip("this node cannot load the module")
    assert float(done.stdout) == pytest.approx(model.quantile([0.1, 0.5, None], [3, 5, 2], 0.7))
