"""docs/how-to/deploy.rst, run: replicas, a real Prometheus with its rules, federation and remote write."""

from __future__ import annotations

import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.manifests import alerts, blocks, recorded_names, resources
from tests.pages import ROOT
from tests.programs import needs_program
from tests.servers.exporting import ANY_PORT, Exporting, ask
from tests.servers.fleet import BEARER, TOKEN, Fleet, recorded_at
from tests.servers.load import Account
from tests.servers.process import Scratch, wait_until
from tests.servers.prometheus import by_bound, interpolated

# Buckets of the default duration histogram, +Inf aside.
BOUNDS = 10


def labelled(found: dict[frozenset[tuple[str, str]], float], *names: str) -> dict[tuple[str, ...], float]:
    """Return values by the values of some labels."""
    return {tuple(dict(labels)[name] for name in names): value for labels, value in found.items()}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Run everything once; the tests only query."""
    needs_program("prometheus", package="prometheus")
    with ExitStack() as stack:
        yield Fleet(stack)


def test_each_replica_is_a_target_and_stays_up(fleet: Fleet) -> None:
    """They are scraped with the token, and none is near the limit of samples."""
    found = fleet.main.ask("targets", state="active")["activeTargets"]
    assert {target["labels"]["instance"]: target["health"] for target in found} == dict.fromkeys(
        fleet.replicas, "up"
    )
    assert fleet.main.number('min(min_over_time(up{job="shop"}[1h]))') == 1
    assert fleet.main.scrapes("shop") >= 6


def test_rules_evaluate_without_error(fleet: Fleet) -> None:
    """No recording rule and no alert fails, and no rule records a label set twice."""
    groups = fleet.main.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules if rule["type"] == "recording"} == set(recorded_names())
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}
    assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == set(alerts())


def test_counters_of_all_replicas_are_the_requests_sent(fleet: Fleet) -> None:
    """They are equal by method, route and status."""
    found = fleet.main.query('sum by (method, route, status) (http_requests_total{job="shop"}) > 0')
    assert labelled(found, "method", "route", "status") == sum(fleet.after.values(), Counter())


def test_recorded_rates_are_the_requests_sent(fleet: Fleet) -> None:
    """They agree within rate()'s extrapolation; one replica more or less would be outside of it."""
    sent = fleet.sent()
    assert sum(sent.values()) == 3 * (100 + 50 + 20)
    recorded = labelled(
        fleet.main.query("job_method_route_status:http_requests:rate5m > 0"), "method", "route", "status"
    )
    assert recorded.keys() == sent.keys()
    for key, rate in recorded.items():
        method, route, status = key
        lowest, highest = fleet.bounds_of(sent[method, route, status])
        assert lowest <= rate * 300 <= highest, key
    lowest, highest = fleet.bounds_of(sum(sent.values()))
    assert lowest <= fleet.main.number("job:http_requests:rate5m") * 300 <= highest


def test_recorded_error_ratio_covers_all_replicas(fleet: Fleet) -> None:
    """It is a ratio of two sums with nearly the same extrapolation."""
    sent = fleet.sent()
    errors = sum(count for (_, _, status), count in sent.items() if status.startswith("5"))
    share = errors / sum(sent.values())
    assert fleet.main.number("job:http_requests_errors:ratio_rate5m") == pytest.approx(share, rel=0.3)
    assert share > 0.05


def test_recorded_series_equals_its_expression(fleet: Fleet) -> None:
    """It is the sum over the instances."""
    for name, expression in (
        ("job_route:http_requests:rate5m", "sum by (job, route) (rate(http_requests_total[5m]))"),
        ("job:http_requests:rate5m", "sum by (job) (rate(http_requests_total[5m]))"),
        ("job:http_requests_in_progress:sum", "sum by (job) (http_requests_in_progress)"),
        ("job:scrape_samples_scraped:sum", "sum by (job) (scrape_samples_scraped)"),
    ):
        moment = recorded_at(fleet.main, name)
        recorded = fleet.main.query(f"{name} or vector(-1)", at=moment)
        assert len(recorded) > 1, name
        plain = {labels - {("__name__", name)}: value for labels, value in recorded.items() if labels}
        # A scrape in progress is only in the later result, and rate() extrapolates.
        assert plain == pytest.approx(fleet.main.query(expression, at=moment), rel=0.25), name


def test_recorded_quantile_covers_all_replicas(fleet: Fleet) -> None:
    """The buckets have the requests to all replicas; the quantile agrees with the test's interpolation."""
    bucket = 'http_request_duration_seconds_bucket{job="shop"}'
    rates = "job_le:http_request_duration_seconds_bucket:rate5m"
    moment = recorded_at(fleet.main, rates)
    recorded = by_bound(fleet.main.query(rates, at=moment))
    (quantile,) = fleet.main.query("job:http_request_duration_seconds:p95_5m", at=moment).values()
    assert quantile == pytest.approx(interpolated(0.95, recorded))
    before = by_bound(fleet.main.query(f"sum by (le) ({bucket})", at=fleet.began))
    after = by_bound(fleet.main.query(f"sum by (le) ({bucket})"))
    sent = [(bound, count - old) for (bound, count), (_, old) in zip(after, before, strict=True)]
    assert sent[-1][1] == sum(fleet.sent().values())
    for (bound, rate), (_, count) in zip(recorded, sent, strict=True):
        lowest, highest = fleet.bounds_of(count)
        assert lowest <= rate * 300 <= highest, bound
    # The median of the third replica is slow, the others' is not: an average of quantiles would be wrong.
    medians = fleet.main.query(f"histogram_quantile(0.5, sum by (instance, le) (rate({bucket}[5m])))")
    assert min(medians.values()) < 0.025 < max(medians.values())


@pytest.mark.parametrize("name", recorded_names())
def test_federation_and_remote_write_have_the_recorded_series(fleet: Fleet, name: str) -> None:
    """Each has the value of the first Prometheus at that time, and the label of its cluster."""
    for other in (fleet.federating, fleet.store):
        carried = other.query(name)
        moments = other.query(f"timestamp({name})")
        there = {moment: fleet.main.query(name, at=moment) for moment in set(moments.values())}
        for labels, value in carried.items():
            moment = moments[labels - {("__name__", name)}]
            expected = there[moment][labels - {("cluster", "eu")}]
            assert value == pytest.approx(expected, rel=1e-12, nan_ok=True), labels
        assert {labels - {("cluster", "eu")} for labels in carried} == set(fleet.main.query(name))
        assert all(("cluster", "eu") in labels for labels in carried)
        assert carried


def test_federation_and_remote_write_have_no_other_series(fleet: Fleet) -> None:
    """The only series of single replicas is up, from which the store knows that there are three."""
    for other, more in ((fleet.federating, set[str]()), (fleet.store, {"up"})):
        names = set(other.ask("label/__name__/values"))
        about_itself = {"up"} | {name for name in names if name.startswith("scrape_")}
        if other is fleet.store:
            about_itself = set()
        assert names - about_itself == set(recorded_names()) | more
    assert fleet.store.number('sum(up{cluster="eu", job="shop"})') == len(fleet.replicas)


def statuses(account: Account) -> set[tuple[str, str, str]]:
    """Return the label sets of http_requests_total, the counters of server errors at 0 included."""
    zero = {
        (method, route, "500")
        for method, route, status in account
        if status < "4" and route != "_unmatched" and method != "_OTHER"
    }
    return {*account, *zero}


def test_series_formula_gives_the_number_of_series(fleet: Fleet) -> None:
    """The formula holds for each replica, and for Prometheus's own count of all series."""
    exceptions = labelled(
        fleet.main.query('count by (instance) (http_request_exceptions_total{job="shop"})'), "instance"
    )
    scraped = labelled(fleet.main.query('scrape_samples_scraped{job="shop"}'), "instance")
    workers = labelled(fleet.main.query('web_prom_workers{job="shop"}'), "instance")
    for target, account in fleet.after.items():
        pairs = {(method, route) for method, route, _ in account}
        assert workers[target,] >= 2
        # 24 series of web-prom do not depend on requests; one is the application's own counter.
        alone = 24 + 7 * workers[target,] + 1
        expected = len(pairs) * (BOUNDS + 3) + len(statuses(account)) + exceptions[target,] + alone
        assert scraped[target,] == expected
    # Prometheus adds five of its own for each target.
    counted = fleet.main.number('count({job="shop", instance!=""})')
    assert counted == sum(scraped.values()) + 5 * len(scraped)
    assert (
        fleet.main.query('web_prom_scrape_series{job="shop"} + 6 != scrape_samples_scraped{job="shop"}') == {}
    )


def test_series_formula_gives_the_number_of_recorded_series(fleet: Fleet) -> None:
    """The number does not depend on the number of replicas."""
    everything = sum(fleet.after.values(), Counter())
    routes = {route for _, route, _ in everything}
    exceptions = fleet.main.number(
        'count(count by (route, exception) (http_request_exceptions_total{job="shop"}))'
    )
    expected = len(statuses(everything)) + exceptions + len(routes) * (BOUNDS + 4) + (BOUNDS + 1) + 6
    assert fleet.main.number('count({__name__=~"job.*:.+"})') == expected


@pytest.mark.parametrize("expression", "\n".join(blocks("promql")).strip().split("\n\n"))
def test_expressions_of_the_page_return_series(fleet: Fleet, expression: str) -> None:
    """Each is unchanged. Those over clusters are evaluated in the store, which has all clusters."""
    for prometheus in (fleet.federating, fleet.store) if "cluster" in expression else (fleet.main,):
        assert prometheus.query(expression)


def test_head_metric_gives_the_number_of_series(fleet: Fleet) -> None:
    """It is at the address of Prometheus's API that the page names."""
    status = fleet.main.ask("status/tsdb")
    assert status["headStats"]["numSeries"] >= fleet.main.number('count({job="shop"})')
    largest = status["seriesCountByMetricName"][0]
    assert largest["name"] == "http_request_duration_seconds_bucket"


# Kubernetes ------------------------------------------------------------------------------------------


def test_annotated_pods_are_scraped(fleet: Fleet) -> None:
    """Each is scraped once, by its name. The rules are the example's, the targets are those of its pods."""
    prometheus = fleet.annotated
    wait_until(lambda: prometheus.scrapes("shop") >= 2, "two scrapes", shown=prometheus.log)
    active = prometheus.ask("targets")["activeTargets"]
    assert sorted(target["labels"]["pod"] for target in active) == ["shop-0", "shop-1", "shop-2"]
    assert {target["labels"]["instance"] for target in active} == set(fleet.replicas)
    assert {target["health"] for target in active} == {"up"}
    seen = prometheus.query('sum by (namespace, pod) (http_requests_total{job="shop"})')
    assert labelled(seen, "namespace", "pod") == {
        ("default", f"shop-{number}"): sum(account.values())
        for number, account in enumerate(fleet.after.values())
    }


class Contained(Exporting):
    """A server with the command, arguments and environment of the Deployment's container."""

    def __init__(self, place: Scratch) -> None:
        (container,) = resources()["Deployment/shop"]["spec"]["template"]["spec"]["containers"]
        told = {item["name"]: item["value"] for item in container["env"]}
        assert (told["PROM_BIND"], told["PROM_BEARER_TOKEN_FILE"]) == (":9464", "/run/secrets/scrape/token")
        (place.folder / "token").write_text(TOKEN)
        told["PROM_BEARER_TOKEN_FILE"] = str(place.folder / "token")
        told["PYTHONPATH"] = f"{ROOT}/examples:{ROOT}"
        arguments = container["args"]
        workers = int(arguments[arguments.index("--workers") + 1])
        super().__init__(place, workers=workers, environ={**told, "PROM_BIND": ANY_PORT})
        assert container["command"] == ["gunicorn"]
        script = str(Path(sysconfig.get_path("scripts"), "gunicorn"))
        here = ["127.0.0.1:0" if item == "0.0.0.0:8000" else item for item in arguments]
        assert here != arguments
        self._command = [sys.executable, script, *here]


def test_container_of_the_deployment_serves_and_is_scraped(place: Scratch) -> None:
    """The metrics port asks for the token of the Secret, and the other port has no metrics."""
    with Contained(place) as server:
        assert server.get("/health")[0] == 200  # the readiness probe
        assert server.get("/products/1")[0] == 200
        assert server.get("/metrics")[0] == 404
        assert ask(server.metrics_port)[0] == 401
        status, text = ask(server.metrics_port, Authorization=BEARER)
        assert status == 200
        assert b'http_requests_total{method="GET",route="/products/<int:number>",status="200"} 1.0' in text
        # The shared directory and gunicorn's own files are below /tmp, which is in memory in the Deployment.
        assert len(place.shared_directories()) >= 1
