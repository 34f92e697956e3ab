"""The cost of decorated functions: web-prom compared with the floor."""

from __future__ import annotations

from benchmarks.effort import Effort
from benchmarks.machine import describe
from benchmarks.paired_table import measure, table

MOST_TIMES_FLOOR = 1.5

EXPLANATION = """\
Microseconds of CPU time that each variant adds to a call of a function: the median and the quartiles of the
differences in {rounds} rounds of {requests}. In each round every variant runs the same in one process. bare:
without measurement. floor: perf_counter() and one bound observe() of prometheus_client by hand in the
function. web-prom: the function with time() and a label by a function of an argument.
"""


def run(effort: Effort) -> None:
    """Measure both kinds of values, and print a table for each.

    Raises:
        NoCaseError: No title contains the requested text.
    """
    cases = effort.choose([f"Decorated function, {kind}-process" for kind in ("single", "multi")])
    print(describe("web-prom", "prometheus-client"))
    print()
    print(EXPLANATION.format(rounds=effort.rounds, requests=effort.requests))
    for number, case in enumerate(cases, 1):
        title = f"[{number}/{len(cases)}] {case}"
        result = measure(["calls_decorated", "--paths=1"], effort, title, multi_process="multi" in case)
        for line in table(case, result, MOST_TIMES_FLOOR, {}):
            print(line)
        print(flush=True)
