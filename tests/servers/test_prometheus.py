"""A real Prometheus scrapes both applications, and PromQL returns the requests that were sent."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.programs import needs_program
from tests.servers.load import KINDS, Account, Load, agree
from tests.servers.process import (
    DJANGO_APP,
    FLASK_APP,
    HOOKS,
    Gunicorn,
    scratch,
)
from tests.servers.prometheus import Prometheus, by_bound, interpolated, scraping

APPS = {"flask": FLASK_APP, "django": DJANGO_APP}
JOBS = pytest.mark.parametrize("job", list(APPS))
# The window covers all samples: increase() extrapolates by scrape intervals, not by windows.
WINDOW = "1h"


class Observed:
    """What was sent to both servers between two times, and the Prometheus that watched.

    Attributes:
        prometheus: The real one.
        servers: Each job's server.
        before, after: Each job's account when Prometheus had its first look, and at the end.
        began: The time between that look and the load.
    """

    def __init__(self, stack: ExitStack) -> None:
        place = stack.enter_context(scratch())
        self.servers = {
            job: stack.enter_context(Gunicorn(place, app=app, worker_class="gthread"))
            for job, app in APPS.items()
        }
        # increase() ignores the first value of a counter: every series has to exist before the load.
        for server in self.servers.values():
            with Load(server, 3 * len(KINDS), kinds=KINDS):
                pass
        self.before = {job: agree(server) for job, server in self.servers.items()}
        self.prometheus = stack.enter_context(Prometheus(place.folder, scraping(self.servers)))
        self.prometheus.wait_for_scrapes(self.servers, 1)
        self.began = time.time()
        for _ in range(4):
            for server in self.servers.values():
                with Load(server, 150):
                    pass
            self.prometheus.wait_for_scrapes(self.servers, 1)
        self.after = {job: agree(server) for job, server in self.servers.items()}
        self.prometheus.wait_for_scrapes(self.servers, 2)
        self.prometheus.at = time.time()  # the order of the tests is random, and other tests may come between

    def sent(self, job: str) -> Account:
        """Return what was sent while Prometheus watched."""
        return self.after[job] - self.before[job]


@pytest.fixture(scope="module")
def observed() -> Iterator[Observed]:
    """Run everything once; the tests only query."""
    needs_program("prometheus", package="prometheus")
    with ExitStack() as stack:
        yield Observed(stack)


@JOBS
def test_target_is_up_without_a_failed_scrape(observed: Observed, job: str) -> None:
    """No scrape failed at any time."""
    found = observed.prometheus.ask("targets", state="active")["activeTargets"]
    (target,) = [target for target in found if target["labels"]["job"] == job]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert observed.prometheus.number(f'min_over_time(up{{job="{job}"}}[1h])') == 1
    assert observed.prometheus.scrapes(job) >= 6


@JOBS
def test_last_values_agree_with_the_access_log(observed: Observed, job: str) -> None:
    """They are equal for each route and status."""
    found = observed.prometheus.query(
        f'sum by (method, route, status) (http_requests_total{{job="{job}"}}) > 0'
    )
    account = {
        (labels["method"], labels["route"], labels["status"]): value
        for labels, value in ((dict(key), value) for key, value in found.items())
    }
    assert account == observed.after[job]


@JOBS
def test_rate_and_increase_agree_with_the_requests_sent(observed: Observed, job: str) -> None:
    """They agree within the extrapolation: half an interval before the first sample, 1.1 after the last."""
    sent = sum(observed.sent(job).values())
    assert sent == 600
    seen = observed.prometheus.scrapes(job) - 1
    increase = observed.prometheus.number(f'sum(increase(http_requests_total{{job="{job}"}}[{WINDOW}]))')
    assert sent * 0.99 <= increase <= sent * (seen + 2) / seen
    rate = observed.prometheus.number(f'sum(rate(http_requests_total{{job="{job}"}}[{WINDOW}]))')
    assert rate * 3600 == pytest.approx(increase)


@JOBS
def test_no_counter_was_reset(observed: Observed, job: str) -> None:
    """Prometheus treats any decrease as a restart and counts everything again."""
    counters = ["http_requests_total", "http_request_exceptions_total", "shop_orders_total"]
    counters += [f"http_request_duration_seconds_{part}" for part in ("bucket", "count", "sum")]
    for name in counters:
        resets = observed.prometheus.query(f'resets({name}{{job="{job}"}}[1h])')
        assert set(resets.values()) == {0.0}, name


@JOBS
def test_histogram_quantile_is_in_the_expected_bucket(observed: Observed, job: str) -> None:
    """It is compared for the last values, which the test interpolates, and for the rates of the requests."""
    selector = f'http_request_duration_seconds_bucket{{job="{job}",route="/slow"}}'
    after = by_bound(observed.prometheus.query(f"sum by (le) ({selector})"))
    before = by_bound(observed.prometheus.query(f"sum by (le) ({selector})", at=observed.began))
    sent = [(bound, count - old) for (bound, count), (_, old) in zip(after, before, strict=True)]
    assert sent[-1][1] == observed.sent(job)["GET", "/slow", "200"]
    for quantile in (0.5, 0.8):
        asked = observed.prometheus.number(f"histogram_quantile({quantile}, sum by (le) ({selector}))")
        assert asked == pytest.approx(interpolated(quantile, after))
        assert asked > 0.025  # it sleeps for longer than that
        rates = f"sum by (le) (rate({selector}[{WINDOW}]))"
        recent = observed.prometheus.number(f"histogram_quantile({quantile}, {rates})")
        # rate()'s extrapolation differs slightly between buckets.
        assert interpolated(quantile - 0.1, sent) <= recent <= interpolated(quantile + 0.1, sent)


@JOBS
@pytest.mark.parametrize(("config", "workers"), [(HOOKS, 2), (None, 1)], ids=["many workers", "one"])
def test_promtool_reports_no_problem(job: str, config: str | None, workers: int) -> None:
    """Every optional family is enabled."""
    promtool = needs_program("promtool", package="prometheus")
    names = ("REQUEST_SIZE", "RESPONSE_SIZE", "FIRST_BYTE", "QUEUE_TIME")
    options = {f"PROM_{name}": "yes" for name in names}
    with (
        scratch() as place,
        Gunicorn(place, app=APPS[job], config=config, workers=workers, environ=options) as server,
    ):
        assert server.get("/", X_Request_Id="queued", X_Request_Start=f"t={time.time()}")[0] == 200
        with Load(server, 200):
            pass
        agree(server)
        _, _, text = server.get("/metrics")
    # Also of requests without the header, from their sockets.
    assert re.search(rb"^http_request_queue_seconds_count [1-9]", text, re.MULTILINE)
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
