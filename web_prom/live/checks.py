"""The section ``checks`` of a snapshot: what is right with the set-up of a service, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Snapshot = dict[str, Any]

# With less traffic, one client that guesses addresses decides the share of requests without a route.
_ENOUGH_REQUESTS = 20
_UNMATCHED_SHARE = 0.5


class SetUp(NamedTuple):
    """What only the service itself knows about its set-up.

    Attributes:
        is_shared: Whether its workers share their values.
        has_siblings: Returns whether the server has other workers.
        is_open: Whether everybody may scrape.
    """

    is_shared: bool
    has_siblings: Callable[[], bool]
    is_open: bool


class SetUpChecks:
    """Checks the set-up of a service from a snapshot.

    Args:
        set_up: Returns what the service knows; None for a service that is looked at from outside.
    """

    def __init__(self, set_up: Callable[[], SetUp] | None = None) -> None:
        self._set_up = set_up

    def __call__(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        """Return the checks for a snapshot, each with ``name``, ``ok``, ``summary`` and ``remedy``."""
        return list(self._checks(snapshot))

    def _checks(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        yield _measured(snapshot)
        if snapshot["requests"]["routes"]:
            yield _routes(snapshot)
        if self._set_up is not None:
            set_up = self._set_up()
            yield _sharing(snapshot, set_up)
            yield _access(set_up)


def _check(name: str, ok: bool, summary: str, remedy: str = "") -> dict[str, Any]:
    return {"name": name, "ok": ok, "summary": summary, "remedy": "" if ok else remedy}


def _measured(snapshot: Snapshot) -> dict[str, Any]:
    if snapshot["requests"]["routes"]:
        return _check("requests", True, "Requests are measured.")
    return _check(
        "requests",
        False,
        "No request was measured.",
        "Send one request. If this stays, put the middleware around the application, or see whether the "
        "address is that of an application.",
    )


def _routes(snapshot: Snapshot) -> dict[str, Any]:
    total = unmatched = 0.0
    for row in snapshot["requests"]["routes"]:
        requests = sum(row["statuses"].values())
        total += requests
        # A client gets a 404 for any address that does not exist.
        if row["route"] == "_unmatched":
            unmatched += requests - row["statuses"].get("404", 0.0)
    if total < _ENOUGH_REQUESTS or unmatched < _UNMATCHED_SHARE * total:
        return _check("routes", True, "The routes of requests are known.")
    return _check(
        "routes",
        False,
        f"{unmatched / total:.0%} of the requests have no known route.",
        "Call web_prom.wsgi.set_route or web_prom.asgi.set_route with the template of the route, or use the "
        "adapter of your framework.",
    )


def _sharing(snapshot: Snapshot, set_up: SetUp) -> dict[str, Any]:
    count = len(snapshot["workers"])
    if set_up.is_shared:
        return _check("sharing", True, f"Workers share their values: {count} at this moment.")
    if not set_up.has_siblings():
        return _check("sharing", True, "The service is one process.")
    return _check(
        "sharing",
        False,
        "The server has several workers, and each shows only its own numbers.",
        "Start the server with 'gunicorn -c python:web_prom.gunicorn', or set PROMETHEUS_MULTIPROC_DIR to an "
        "empty directory before it starts.",
    )


def _access(set_up: SetUp) -> dict[str, Any]:
    if not set_up.is_open:
        return _check("access", True, "Access to the metrics and to this page is restricted.")
    return _check(
        "access",
        False,
        "Everybody who reaches the service can read its metrics.",
        "Set PROM_BEARER_TOKEN_FILE, PROM_BASIC_AUTH_FILE or PROM_ALLOWED_NETWORKS, unless a proxy restricts "
        "access.",
    )
