"""How the cost of a scrape grows with files and with series, drawn to docs/explanation/scrape-cost.svg."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.scrapes import MILLISECONDS, measure

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "scrape-cost.svg"

# The series of each process when their number grows, and the processes when the series grow.
SERIES, PROCESSES = 1_000, 4
WAYS = {
    "upstream": "prometheus_client",
    "cold": "web-prom, first scrape",
    "tenth": "web-prom, a tenth changed",
    "none": "web-prom, nothing changed",
}
Costs = dict[int, dict[str, float]]


def run(effort: Effort) -> None:
    """Measure, print a table, and draw it.

    Raises:
        SystemExit: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise SystemExit("growth draws with matplotlib: install web-prom[bench]") from None
    mpl.use("svg")
    rounds = max(1, effort.rounds // 40)
    largest = 9 if effort.rounds > 1 else 2
    processes = [2**power for power in range(largest + 1)]
    series = [1_000, 3_000, 10_000, 30_000, 100_000] if effort.rounds > 1 else [1_000, 2_000]
    by_process = {each: _costs(each, SERIES, rounds) for each in processes}
    by_series = {each: _costs(PROCESSES, each, rounds) for each in series}
    for title, costs in _titled(by_process, by_series).items():
        print(f"{title:>32}" + "".join(f"{name:>28}" for name in WAYS.values()))
        for number, row in costs.items():
            print(f"{number:32,}" + "".join(f"{row[way]:25.2f} ms" for way in WAYS))
        print(flush=True)
    if effort.rounds > 1:
        _draw(_titled(by_process, by_series))
        print(f"drawn to {PICTURE}")


def _titled(by_process: Costs, by_series: Costs) -> dict[str, Costs]:
    return {
        f"processes with {SERIES:,} series each": by_process,
        f"series in each of {PROCESSES} processes": by_series,
    }


def _costs(processes: int, series: int, rounds: int) -> dict[str, float]:
    title = f"{processes} processes x {series:,} series"
    seconds = measure(processes, series, rounds, title, memory=False)["seconds"]
    return {way: statistics.median(seconds[way]) * MILLISECONDS for way in WAYS}


def _draw(titled: dict[str, Costs]) -> None:
    import matplotlib as mpl
    from matplotlib import pyplot

    # The same numbers give the same file.
    mpl.rcParams.update({"svg.hashsalt": "web-prom", "svg.fonttype": "none", "font.size": 9})
    figure, places = pyplot.subplots(1, len(titled), figsize=(9, 3.6), sharey=True, layout="constrained")
    for place, (title, costs) in zip(places, titled.items(), strict=True):
        for way, name in WAYS.items():
            place.loglog(list(costs), [row[way] for row in costs.values()], marker=".", label=name)
        place.set_xlabel(title)
        place.grid(visible=True, color="0.9")
    places[0].set_ylabel("milliseconds of CPU time for a scrape")
    places[0].legend(frameon=False)
    figure.savefig(PICTURE, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
