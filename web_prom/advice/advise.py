"""All checks of a service, and their verdicts, the worst first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from web_prom.advice import health, requests, saturation
from web_prom.advice.scrapes import Metrics, Scrape, Window
from web_prom.advice.verdict import Severity, Verdict

CHECKS: tuple[Callable[[Window], Iterator[Verdict]], ...] = (
    health.sharing,
    requests.errors,
    requests.repeated_queries,
    requests.pools,
    requests.migrations,
    saturation.workers,
    saturation.queue,
    saturation.backlog,
    saturation.event_loop,
    saturation.threads,
    health.memory,
    health.restarts,
    health.label_overflow,
    health.exporter,
)


def advise(metrics: Metrics, earlier: Metrics | None = None, *, seconds: float = 30.0) -> list[Verdict]:
    """Return verdicts on a service, each with its numbers and a remedy, the worst first.

    Args:
        metrics: What ``/metrics`` answers now, as text or as families.
        earlier: What it answered before. Without it nothing can be said of rates, of queue times or of
            memory that grows.
        seconds: The time between the two.

    Returns:
        At least one verdict; it is ``healthy`` if no check found anything.

    Raises:
        ValueError: A text is not in Prometheus' format.

    Safe in any thread. Nothing is read but the arguments and the clock.
    """
    now = time.time()
    before = None if earlier is None else Scrape(earlier, now - seconds)
    return verdicts(Window(Scrape(metrics, now), before))


def verdicts(window: Window) -> list[Verdict]:
    """Return what all checks say of one or two scrapes, the worst first."""
    found = [verdict for check in CHECKS for verdict in check(window)]
    if all(verdict.severity <= Severity.INFO for verdict in found):
        watched = f"in {window.seconds:.0f} s" if window.before else "in one scrape"
        found.append(
            Verdict(name="healthy", severity=Severity.OK, summary=f"No check found a problem {watched}.")
        )
    return sorted(found, key=lambda verdict: -verdict.severity)
