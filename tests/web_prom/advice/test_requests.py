"""Verdicts on what requests do: server errors, repeated queries, pools and migrations."""

from __future__ import annotations

import pytest

from web_prom.advice.advise import advise
from web_prom.advice.verdict import Severity, Verdict

WINDOW = 30.0


def names(before: str, after: str) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in advise(after, before, seconds=WINDOW)}


def served(route: str, ok: float, failed: float = 0, *, prefix: str = "", **database: float) -> str:
    """Return the text of one route in the default naming."""
    labels = f'method="GET",route="{route}"'
    text = (
        f"{prefix}http_request_duration_seconds_count{{{labels}}} {ok + failed}\n"
        f"{prefix}http_request_duration_seconds_sum{{{labels}}} 1\n"
        f'{prefix}http_requests_total{{{labels},status="200"}} {ok}\n'
        f'{prefix}http_requests_total{{{labels},status="500"}} {failed}\n'
    )
    families = ((f"{prefix}http_request_db_{name}_total", value) for name, value in database.items())
    return text + "".join(f"{family}{{{labels}}} {value}\n" for family, value in families)


def pool(used: float, *, limit: float | None = 5, waiting: float = 0, late: float = 0) -> str:
    label = 'db_client_connection_pool_name="main"'
    return (
        f'db_client_connection_count{{{label},db_client_connection_state="used"}} {used}\n'
        + ("" if limit is None else f"db_client_connection_max{{{label}}} {limit}\n")
        + f"db_client_connection_pending_requests{{{label}}} {waiting}\n"
        f"db_client_connection_timeouts_total{{{label}}} {late}\n"
    )


@pytest.mark.parametrize("prefix", ["", "shop_"])
@pytest.mark.parametrize(
    ("failed", "severity"), [(2, Severity.WARNING), (9, Severity.WARNING), (10, Severity.CRITICAL)]
)
def test_errors_names_a_route_that_fails(failed: float, severity: Severity, prefix: str) -> None:
    found = names(served("/a", 0, prefix=prefix), served("/a", 100 - failed, failed, prefix=prefix))
    assert found["errors"].severity == severity
    assert found["errors"].summary == (
        f"{failed:.1f}% of GET /a ended in a server error: {failed} of 100 requests in 30 s."
    )
    assert found["errors"].numbers["error_ratio"] == pytest.approx(failed / 100)


@pytest.mark.parametrize(("ok", "failed"), [(99, 1), (10, 9), (1000, 0)])
def test_errors_ignores_few_errors_and_few_requests(ok: float, failed: float) -> None:
    assert "errors" not in names(served("/a", 0), served("/a", ok, failed))


def test_errors_counts_only_what_happened_between_the_scrapes() -> None:
    assert "errors" not in names(served("/a", 0, 500), served("/a", 100, 500))
    assert "errors" not in {verdict.name for verdict in advise(served("/a", 0, 500))}


def test_errors_knows_the_opentelemetry_naming() -> None:
    def text(ok: float, failed: float) -> str:
        return (
            "".join(
                'http_server_request_duration_seconds_count{http_request_method="POST",http_route="/b",'
                f'http_response_status_code="{status}"}} {count}\n'
                for status, count in (("200", ok), ("503", failed))
            )
            + 'http_server_request_duration_seconds_sum{http_request_method="POST",http_route="/b"} 1\n'
        )

    assert "POST /b" in names(text(0, 0), text(50, 50))["errors"].summary


def test_errors_names_the_worst_routes() -> None:
    before = "".join(served(f"/{number}", 0) for number in range(9))
    after = "".join(served(f"/{number}", 100, 10 + number) for number in range(9))
    found = [verdict for verdict in advise(after, before) if verdict.name == "errors"]
    assert [verdict.summary.split()[3] for verdict in found] == ["/8", "/7", "/6", "/5", "/4"]


@pytest.mark.parametrize(("mean", "severity"), [(2.9, None), (3, Severity.WARNING), (20, Severity.CRITICAL)])
def test_repeated_queries_names_a_route(mean: float, severity: Severity | None) -> None:
    before = served("/a", 0, queries=0, repeated_queries=0)
    after = served("/a", 10, queries=300, repeated_queries=10 * mean)
    found = names(before, after).get("repeated_queries")
    assert (found and found.severity) == severity
    if found:
        assert found.numbers == {"repeated_per_request": mean, "queries_per_request": 30}
        assert "prefetch_related" in found.remedy


@pytest.mark.parametrize(
    ("before", "after", "severity"),
    [
        (pool(0), pool(4), None),
        (pool(0), pool(5), Severity.WARNING),
        (pool(0), pool(5, waiting=2), Severity.WARNING),
        (pool(0), pool(6), Severity.WARNING),
        (pool(0), pool(3, waiting=2), None),
        (pool(0, limit=None), pool(3, limit=None, waiting=2), None),
        (pool(0, limit=0), pool(3, limit=0, waiting=2), None),
        (pool(0, limit=None), pool(3, limit=None, late=1), Severity.CRITICAL),
        (pool(0, late=7), pool(5, late=9), Severity.CRITICAL),
        (pool(0, late=7), pool(3, late=7), None),
        (pool(0, limit=0), pool(9, limit=0), None),
    ],
)
def test_pools_without_a_free_connection(before: str, after: str, severity: Severity | None) -> None:
    found = names(before, after).get("pool_exhausted")
    assert (found and found.severity) == severity


def test_pools_says_how_many_wait() -> None:
    found = names(pool(0, late=7), pool(5, waiting=3, late=9))["pool_exhausted"]
    assert found.summary == (
        "The connection pool main uses 5 of 5 connections, and 3 requests wait for one; "
        "2 waited in vain in 30 s."
    )


@pytest.mark.parametrize(
    ("after", "summary"),
    [
        (pool(5, waiting=1), "uses 5 of 5 connections, and 1 request waits for one."),
        (pool(1, limit=1), "uses 1 of 1 connection, and 0 requests wait for one."),
        (
            pool(2, limit=None, waiting=1, late=1),
            "uses 2 connections, and 1 request waits for one; 1 waited in vain in 30 s.",
        ),
        (
            pool(1, limit=0, late=3),
            "uses 1 connection, and 0 requests wait for one; 3 waited in vain in 30 s.",
        ),
    ],
)
def test_pools_says_singular_and_plural_and_no_limit_that_is_not_known(after: str, summary: str) -> None:
    before = after[: after.rindex(" ")] + " 0\n"
    assert names(before, after)["pool_exhausted"].summary == f"The connection pool main {summary}"


@pytest.mark.parametrize("count", [0, 2])
def test_migrations_that_are_missing(count: int) -> None:
    text = f'django_migrations_unapplied{{db_namespace="shop"}} {count}\n'
    found = {verdict.name: verdict for verdict in advise(text)}
    assert ("unapplied_migrations" in found) == bool(count)
    if count:
        assert "The database shop lacks 2 migrations" in found["unapplied_migrations"].summary
