"""Checks of what requests do: server errors, repeated queries, connection pools and migrations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from web_prom.advice.scrapes import Window
from web_prom.advice.verdict import Severity, Verdict, counted
from web_prom.metrics.conventions import DB_QUERIES, DB_REPEATED_QUERIES, NAMINGS, MetricSpec, Naming
from web_prom.metrics.namings.recognition import recognise

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
    repeated = _by_route(window, window.sample_name(DB_REPEATED_QUERIES.name))
    if not any(repeated.values()):
        return
    queries = _by_route(window, window.sample_name(DB_QUERIES.name))
    finished = _statuses(window)[0]
    means = {
        route: repeated[route] / count
        for route, count in finished.items()
        if count and repeated.get(route, 0.0) >= REPEATED_QUERIES[0] * count
    }
    for route, mean in _worst(means):
        every = queries.get(route, 0.0) / finished[route]
        yield Verdict(
            name="repeated_queries",
            severity=Severity.CRITICAL if mean >= REPEATED_QUERIES[1] else Severity.WARNING,
            summary=(
                f"{_name(route)} repeats queries {mean:.3g} times in each request, "
                f"which sends {every:.3g} queries."
            ),
            remedy=(
                "Load related rows with one query: select_related or prefetch_related in Django, joinedload "
                "or selectinload in SQLAlchemy."
            ),
            numbers={"repeated_per_request": mean, "queries_per_request": every},
        )


def pools(window: Window) -> Iterator[Verdict]:
    """Look for pools that have no free connection."""
    after, name = window.after, window.sample_name
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
    for name in ("django_migrations_unapplied", "django_migrations_unapplied_total"):
        for database, count in sorted(_maxima(window, window.sample_name(name)).items()):
            if count:
                yield Verdict(
                    name="unapplied_migrations",
                    severity=Severity.WARNING,
                    summary=(
                        f"The database {database} lacks {counted(count, 'migration')} of the code that runs."
                    ),
                    remedy="Run manage.py migrate.",
                    numbers={"migrations": count},
                )


def _statuses(window: Window) -> tuple[dict[Route, float], dict[Route, float]]:
    """Return the requests that finished between the scrapes by route, and those with a server error."""
    finished: dict[Route, float] = {}
    failed: dict[Route, float] = {}
    naming = _naming(window)
    if naming is None:
        return finished, failed
    spec = naming.requests or naming.duration
    name = window.sample_name(spec.name if naming.requests else f"{spec.name}_count")
    status_label, method_label = _label(spec, "status"), _label(spec, "method")
    route_labels = _label(spec, "route"), _label(spec, "template")
    for labels, growth in window.growth(name):
        if not growth:
            continue
        template = labels.get(route_labels[0]) or labels.get(route_labels[1]) or "_unmatched"
        route = labels.get(method_label, ""), template
        finished[route] = finished.get(route, 0.0) + growth
        if labels.get(status_label, "").startswith("5"):
            failed[route] = failed.get(route, 0.0) + growth
    return finished, failed


def _naming(window: Window) -> Naming | None:
    def labels_of(name: str) -> Collection[str] | None:
        for each in (name, f"{name}_count"):
            points = window.after.points(window.sample_name(each))
            if points:
                return next(iter(points)).labels.keys()
        return None

    return recognise(NAMINGS.values(), labels_of)


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


def _label(spec: MetricSpec, attribute: str) -> str:
    """Return the name of the label that has an attribute of the request, or ""."""
    return next((label for label, each in spec.labels.items() if each == attribute), "")


def _name(route: Route) -> str:
    return " ".join(part for part in route if part)


def _worst(values: Mapping[Route, float]) -> list[tuple[Route, float]]:
    return sorted(values.items(), key=lambda item: -item[1])[:MAX_ROUTES]
