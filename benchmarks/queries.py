"""The cost of measuring queries and cache operations: web-prom, the floor and other exporters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.effort import Effort
from benchmarks.machine import describe
from benchmarks.paired_table import measure, table

DISTRIBUTIONS = ("web-prom", "prometheus-client", "django", "django-prometheus", "sqlalchemy")

EXPLANATION = """\
Microseconds of CPU time that each variant adds to a query, two cache operations, or a request: the median
and the quartiles of the differences in {rounds} rounds of {requests}. In each round every variant runs the
same in one process. The database is SQLite in memory, and the cache is in memory. bare: without measurement.
floor: perf_counter() and one bound observe() of prometheus_client around each query and each cache operation;
for a request, also the floor of the request benchmark. get_or_set and get_many run operations inside; their
floor is that of each of these. web-prom observes the query, and counts it and its
template for its route. It counts and observes each cache operation. django-prometheus only counts hits.
"""


class Case(NamedTuple):
    """The subject of one process.

    Attributes:
        title: Its title, without the kind of values.
        module: The module with the variants.
        most_times_floor: The goal for web-prom, if there is one.
        least_times_ours: The goals for the ratios of other exporters to web-prom.
        multi_process: Whether the values are shared.
    """

    title: str
    module: str
    most_times_floor: float | None
    least_times_ours: Mapping[str, float]
    multi_process: bool = False

    def __str__(self) -> str:
        return f"{self.title}, {'multi' if self.multi_process else 'single'}-process"


CASES = (
    Case("Query of Django", "queries_django", 1.5, {"django-prometheus": 2.0}),
    Case("Django cache, hit and set", "caches_django", 1.5, {}),
    Case("Django cache, get_or_set and get_many", "caches_inside", 1.5, {}),
    Case("Query of SQLAlchemy", "queries_sqlalchemy", 1.5, {}),
    Case(
        "Django request, 5 queries, 2 cache hits", "queries_django_requests", None, {"django-prometheus": 3.0}
    ),
)


def run(effort: Effort) -> None:
    """Measure every case, and print a table for each.

    Raises:
        NoCaseError: No title contains the requested text.
    """
    every = [case._replace(multi_process=shared) for case in CASES for shared in (False, True)]
    cases = effort.choose(every)
    print(describe(*DISTRIBUTIONS))
    print()
    print(EXPLANATION.format(rounds=effort.rounds, requests=effort.requests))
    for number, case in enumerate(cases, 1):
        arguments = [case.module, "--paths=1", *(["--peers"] if effort.peers else [])]
        title = f"[{number}/{len(cases)}] {case}"
        result = measure(arguments, effort, title, multi_process=case.multi_process)
        for line in table(str(case), result, case.most_times_floor, case.least_times_ours):
            print(line)
        print(flush=True)
