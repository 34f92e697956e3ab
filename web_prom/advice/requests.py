"""Checks of what requests do: server errors, repeated queries, connection pools and migrations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from web_prom.advice.scrapes import Window
from web_prom.advice.verdict import Severity, Verdict, counted
from web_prom.family_names import MIGRATIONS_UNAPPLIED
from web_prom.metrics.conventions import DB_QUERIES, DB_REPEATED_QUERIES
from web_prom.metrics.namings.recognition import label_of, route_reader, status_counter

ERROR_SHARES = (0.01, 0.1)
"""Shares of a route's requests that end in a server error: from here a warning, from here critical."""

MIN_REQUESTS = 20
"""With fewer requests of a route, one error says little."""

REPEATED_QUERIES = (3.0, 20.0)
"""Repeated queries in each request of a route: from here a warning, from here critical."""

MAX_ROUTES = 5
"""Routes that get a verdict of each kind: the worst ones."""

_POOL = "db_client_connection_pool_name"
_STATE = "db_client_connection_state"

Route = tuple[str, str]
"""A method and a route template."""


def errors(window: Window) -> Iterator[Verdict]:
    """Look for routes of which more than 1 % of the requests end in a server error."""
    finished, failed = _statuses(window)
    shares = {
        route: failed[route] / count
        for route, count in finished.items()
        if count >= MIN_REQUESTS and failed.get(route, 0.0) > ERROR_SHARES[0] * count
    }
    for route, share in _worst(shares):
        yield Verdict(
            name="errors",
            severity=Severity.CRITICAL if share >= ERROR_SHARES[1] else Severity.WARNING,
            summary=(
                f"{share:.1%} of {_name(route)} ended in a server error: {failed[route]:.0f} of "
                f"{counted(finished[route], 'request')} in {window.seconds:.0f} s."
            ),
            remedy="Look at the exceptions of this route, then at the log of the workers.",
            numbers={"error_ratio": share, "errors": failed[route], "requests": finished[route]},
        )


def repeated_queries(window: Window) -> Iterator[Verdict]:
    """Look for routes that send the same query many times in each request (N+1)."""
    repeated = _by_route(window, window.names.find(DB_REPEATED_QUERIES.name))
    if not any(repeated.values()):
        return
    queries = _by_route(window, window.names.find(DB_QUERIES.name))
    finished = _statuses(window)[0]
    means = {
        route: count / requests
        for route, count in repeated.items()
        if (requests := _most_requests(finished, route)) and count >= REPEATED_QUERIES[0] * requests
    }
    for route, mean in _worst(means):
        every = queries.get(route, 0.0) / _most_requests(finished, route)
        least = "" if route in finished else "at least "
        yield Verdict(
            name="repeated_queries",
            severity=Severity.CRITICAL if mean >= REPEATED_QUERIES[1] else Severity.WARNING,
            summary=(
                f"{_name(route)} repeats queries {least}{mean:.3g} times in each request, "
                f"which sends {least}{every:.3g} queries."
            ),
            remedy=(
                "Load related rows with one query: select_related or prefetch_related in Django, joinedload "
                "or selectinload in SQLAlchemy."
            ),
            numbers={"repeated_per_request": mean, "queries_per_request": every},
        )


def pools(window: Window) -> Iterator[Verdict]:
    """Look for pools that have no free connection."""
    after, name = window.after, window.names.find
    pending = after.sum_by_label(name("db_client_connection_pending_requests"), _POOL)
    limits = after.sum_by_label(name("db_client_connection_max"), _POOL)
    used: dict[str, float] = {}
    for point in after.points(name("db_client_connection_count")):
        if point.labels.get(_STATE) == "used":
            pool = point.labels.get(_POOL, "")
            used[pool] = used.get(pool, 0.0) + point.value
    timeouts = _increases(window, name("db_client_connection_timeouts_total"))
    for pool in sorted({*used, *timeouts}):
        waiting, late, limit = pending.get(pool, 0.0), timeouts.get(pool, 0.0), limits.get(pool, 0.0)
        busy = used.get(pool, 0.0)
        # Requests that open a connection are pending too: they alone say nothing.
        if not (late or (limit > 0 and busy >= limit)):
            continue
        places = f"{busy:.0f} of {counted(limit, 'connection')}" if limit > 0 else counted(busy, "connection")
        wait = f"{counted(waiting, 'request')} wait{'s' if round(waiting) == 1 else ''} for one"
        vain = f"; {late:.0f} waited in vain in {window.seconds:.0f} s" if late else ""
        yield Verdict(
            name="pool_exhausted",
            severity=Severity.CRITICAL if late else Severity.WARNING,
            summary=f"The connection pool {pool} uses {places}, and {wait}{vain}.",
            remedy=(
                "Return connections earlier: close sessions, and do no slow work inside a transaction. Then "
                "raise pool_size, if the database allows as many connections for all workers."
            ),
            numbers={"used": busy, "limit": limit, "waiting": waiting, "timeouts": late},
        )


def migrations(window: Window) -> Iterator[Verdict]:
    """Look for databases that lack migrations of the code that runs."""
    found = _maxima(window, window.names.find(MIGRATIONS_UNAPPLIED))
    for database, count in sorted(found.items()):
        if count:
            yield Verdict(
                name="unapplied_migrations",
                severity=Severity.WARNING,
                summary=f"The database {database} lacks {counted(count, 'migration')} of the code that runs.",
                remedy="Run manage.py migrate.",
                numbers={"migrations": count},
            )


def _statuses(window: Window) -> tuple[dict[Route, float], dict[Route, float]]:
    """Return the requests that finished between the scrapes by route, and those with a server error."""
    finished: dict[Route, float] = {}
    failed: dict[Route, float] = {}
    naming = window.names.naming
    if naming is None:
        return finished, failed
    counter = status_counter(naming)
    spec = counter or naming.duration
    name = window.names.find(spec.name)
    read_route, status = route_reader(naming, spec), label_of(spec, "status")
    for labels, growth in window.growth(name if counter else f"{name}_count"):
        if not growth:
            continue
        route = read_route(labels)
        finished[route] = finished.get(route, 0.0) + growth
        if labels.get(status, "").startswith("5"):
            failed[route] = failed.get(route, 0.0) + growth
    return finished, failed


def _most_requests(finished: Mapping[Route, float], route: Route) -> float:
    """Return the requests of a route, or all of its method: some namings count by view, queries by route."""
    found = finished.get(route)
    return sum(count for each, count in finished.items() if each[0] == route[0]) if found is None else found


def _by_route(window: Window, name: str) -> dict[Route, float]:
    found: dict[Route, float] = {}
    for labels, growth in window.growth(name):
        route = labels.get("method", ""), labels.get("route", "")
        found[route] = found.get(route, 0.0) + growth
    return found


def _increases(window: Window, name: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for labels, growth in window.growth(name):
        pool = labels.get(_POOL, "")
        found[pool] = found.get(pool, 0.0) + growth
    return found


def _maxima(window: Window, name: str) -> dict[str, float]:
    """Return the highest values of a gauge by database: several workers can show the same database."""
    found: dict[str, float] = {}
    for point in window.after.points(name):
        database = point.labels.get("db_namespace") or point.labels.get("connection") or "default"
        found[database] = max(found.get(database, 0.0), point.value)
    return found


def _name(route: Route) -> str:
    return " ".join(part for part in route if part)


def _worst(values: Mapping[Route, float]) -> list[tuple[Route, float]]:
    return sorted(values.items(), key=lambda item: -item[1])[:MAX_ROUTES]
