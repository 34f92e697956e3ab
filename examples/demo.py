"""Serves the example shops under gunicorn, sends requests, and compares them with the metrics.

``make demo`` runs it. It serves until Ctrl-C, or with DEMO_SECONDS=n until n seconds after the comparison.
Both shops have a live page. After the comparison they get a light load, which the compared numbers do not
contain.

``make demo-prometheus`` adds a Prometheus with rules and six hours of made-up history.
The exit code is 0 if all numbers agree.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event

from demo_comparison import compare, say
from demo_history import HOURS
from demo_load import LOAD, send_load
from demo_prometheus import SCRAPE_SECONDS, Prometheus, prepare, require_programs
from demo_servers import WORKERS, DemoError, Process, Server, stop_all
from demo_traffic import Traffic

SHOPS = {"Flask": "flask_shop:app", "Django": "django_shop.wsgi"}


def serve(processes: Sequence[Process], seconds: float, stop: Event) -> None:
    """Continue to serve for a number of seconds, or until ``stop`` is set.

    Raises:
        DemoError: A process exited.
    """
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not stop.wait(min(left, 0.5)):
        for process in processes:
            process.check()


def send_and_compare(servers: Sequence[Server], stop: Event) -> None:
    """Send the load to servers that are starting, and compare it with their metrics.

    Raises:
        DemoError: A step failed, or ``stop`` was set before the comparison.
    """
    for server in servers:
        server.wait_until_ready(stop)
        check_stop(stop)
        say(f"   {server.shop:<7} {server.url}")
    times = sum(hit.times for hit in LOAD)
    say(f"2. Sending {times} requests to each: pages, orders, errors, a stream, nonsense ...")
    started = time.monotonic()
    answers = send_load([server.port for server in servers], stop)
    check_stop(stop)
    say(f"   all done after {time.monotonic() - started:.1f} s")
    say("3. Scraping /metrics of each and comparing ...")
    compare(servers, answers)


def start_prometheus(folder: Path, servers: Sequence[Server], processes: list[Process], stop: Event) -> None:
    """Start a Prometheus that scrapes the servers, and print what to look at.

    Args:
        folder: A new directory for its files.
        servers: The servers that it scrapes.
        processes: It is added to these, which end with the demo.
        stop: Ends the start early.

    Raises:
        DemoError: A step failed.
    """
    say(f"\n4. Making {HOURS} hours of history for Prometheus ...")
    prepare(folder, servers, stop)
    if stop.is_set():
        return
    say(f"   Starting Prometheus, which scrapes the shops every {SCRAPE_SECONDS} s ...")
    prometheus = Prometheus(folder)
    processes.append(prometheus)
    pages = prometheus.wait_until_ready(stop)
    for name, url in pages.items():
        say(f"   {name:<11}{url}")
    say("   The rules are those of `web-prom rules`. For Grafana, `web-prom dashboard`")
    say("   prints dashboards: docs/how-to/grafana.rst.")
    say("   After some minutes /broken and /reviews make alerts fire, by intent.")
    say("   The history is made up. The counters start at zero where it ends.")


def run(folder: Path, seconds: float, with_prometheus: bool, processes: list[Process], stop: Event) -> None:
    """Run the steps of the demo.

    Args:
        folder: A directory for all files.
        seconds: How long to serve after the comparison.
        with_prometheus: Whether to start a Prometheus.
        processes: Each process that is started is added. They are to be ended after the demo.
        stop: Ends the demo early.

    Raises:
        DemoError: A step failed, or ``stop`` was set before the comparison.
    """
    servers = []
    for name, app in SHOPS.items():
        servers.append(Server(name, app, folder / name))
        processes.append(servers[-1])
    say("The live page of each shop:")
    for server in servers:
        say(f"   {server.shop:<7} {server.live_url}")
    say(f"\n1. Starting the example shops under gunicorn, each with {WORKERS} workers ...")
    send_and_compare(servers, stop)
    with ExitStack() as stack:
        if seconds:
            stack.enter_context(Traffic([server.port for server in servers]))
        if with_prometheus:
            start_prometheus(folder / "prometheus", servers, processes, stop)
        if seconds and not stop.is_set():
            say("\nBoth are still serving. Have a look, and end them with Ctrl-C:")
            for server in servers:
                say(f"   {server.shop:<7} {server.live_url}   {server.url}/metrics")
            say("From now on they get a light load. The numbers above do not contain it.")
            serve(processes, seconds, stop)


def check_stop(stop: Event) -> None:
    """Raise DemoError if the demo is to be stopped."""
    if stop.is_set():
        raise DemoError("Stopped before there was anything to compare.")


def serving_seconds() -> float:
    """Return the seconds to serve after the comparison: DEMO_SECONDS, or infinity.

    Raises:
        DemoError: It is not a number of seconds.
    """
    given = os.environ.get("DEMO_SECONDS", "inf")
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise DemoError(f"DEMO_SECONDS is {given!r}; allowed: a number of seconds, for example 0 or 60")
    return seconds


def demonstrate(with_prometheus: bool, stop: Event) -> None:
    """Run the whole demo, and remove all its processes and files.

    Raises:
        DemoError: As :func:`run` and :func:`serving_seconds`; or Prometheus is not installed.
    """
    seconds = serving_seconds()
    if with_prometheus:
        require_programs()
    with tempfile.TemporaryDirectory(prefix="web-prom-demo-") as folder:
        processes: list[Process] = []
        try:
            run(Path(folder), seconds, with_prometheus, processes, stop)
        finally:
            stop_all(processes)


def main() -> int:
    """Run the demo until its end or until a signal, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Serve the example shops, and compare requests with metrics."
    )
    parser.add_argument("--prometheus", action="store_true", help="add a Prometheus with rules and a history")
    given = parser.parse_args()
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        demonstrate(given.prometheus, stop)
    except DemoError as error:
        say(f"\n{error}")
        return 1
    except BrokenPipeError:  # the reader has closed the pipe, as in `make demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    say("\nAll servers have ended.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
