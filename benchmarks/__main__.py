"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks import (
    calls,
    growth,
    live,
    load,
    outgoing,
    queries,
    registry,
    requests,
    restarts,
    saturation,
    scrapes,
    ticks,
)
from benchmarks.effort import Effort, NoCaseError

BENCHMARKS: dict[str, Callable[[Effort], None]] = {
    "requests": requests.run,
    "queries": queries.run,
    "calls": calls.run,
    "outgoing": outgoing.run,
    "registry": registry.run,
    "scrapes": scrapes.run,
    "growth": growth.run,
    "load": load.run,
    "restarts": restarts.run,
    "ticks": ticks.run,
    "saturation": saturation.run,
    "live": live.run,
}
# growth writes a picture into docs/, and load takes minutes: they only run if they are named.
ONLY_BY_NAME = ("growth", "load")


def main() -> None:
    """Run the named benchmarks, or all that write no file."""
    arguments = _arguments()
    effort = Effort(
        rounds=arguments.rounds or (15 if arguments.quick else 120),
        requests=50 if arguments.quick else 100,
        peers=arguments.peers,
        only=arguments.only,
        quick=arguments.quick,
    )
    chosen = arguments.benchmark or [name for name in BENCHMARKS if name not in ONLY_BY_NAME]
    without_case: list[str] = []
    for name in chosen:
        try:
            BENCHMARKS[name](effort)
        except NoCaseError as error:
            without_case.append(str(error))
    if len(without_case) == len(chosen):
        raise SystemExit("\n".join(without_case))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the cost of web-prom.")
    parser.add_argument(
        "benchmark",
        nargs="*",
        help=f"any of {', '.join(BENCHMARKS)}; by default all except {' and '.join(ONLY_BY_NAME)}",
    )
    parser.add_argument("--quick", action="store_true", help="a rough result in a fraction of the time")
    parser.add_argument("--rounds", type=_positive, help="the number of rounds")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="only web-prom and the floor")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this text in their title")
    arguments = parser.parse_args()
    for name in arguments.benchmark:
        if name not in BENCHMARKS:
            parser.error(f"{name!r} is not a benchmark; the benchmarks are {', '.join(BENCHMARKS)}")
    return arguments


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    main()
