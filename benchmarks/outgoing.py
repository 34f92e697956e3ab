"""The cost of measuring outgoing requests: web-prom compared with the floor."""

from __future__ import annotations

from benchmarks.effort import Effort
from benchmarks.machine import describe
from benchmarks.paired_table import measure, table
from benchmarks.queries import Case

DISTRIBUTIONS = ("web-prom", "prometheus-client", "requests", "httpx", "urllib3")

EXPLANATION = """\
Microseconds of CPU time that each variant adds to an outgoing request: the median and the quartiles of the
differences in {rounds} rounds of {requests}. In each round every variant runs the same in one process. The
responses come from memory. bare: without measurement. floor: perf_counter() and one bound observe() of
prometheus_client around each request.
"""

CASES = (
    Case("Request of urllib3", "outgoing_urllib3", None, {}),
    Case("Request of requests", "outgoing_requests", None, {}),
    Case("Request of httpx", "outgoing_httpx", None, {}),
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
        title = f"[{number}/{len(cases)}] {case}"
        result = measure([case.module, "--paths=1"], effort, title, multi_process=case.multi_process)
        for line in table(str(case), result, case.most_times_floor, case.least_times_ours):
            print(line)
        print(flush=True)
