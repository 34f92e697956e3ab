"""``web-prom top URL...``: what services do now, on a terminal."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from web_prom.cli.options import (
    UnreadableTokenError,
    add_scrape_options,
    headers_of,
    positive_seconds,
    seconds,
)
from web_prom.multiprocess.directory.environment import unset_directory

if TYPE_CHECKING:
    from web_prom.cli.frame import Order
    from web_prom.cli.targets import Target

HELP = "show what running services do now: routes, errors, latencies, workers, verdicts"
DESCRIPTION = (
    "Show what running services do now: requests, errors, latencies, routes, workers, verdicts. Percentiles "
    "are estimates from the buckets of histograms. Keys: q ends; r, e, 5, p, 9, d, t and n sort the routes "
    "by rate, errors, p50, p95, p99, database queries, time and name; the same key again reverses the order."
)
EPILOG = """\
Without a terminal the output is text without colours, one block in each interval. Colours and --svg need
rich: pip install 'web-prom[cli]'. NO_COLOR in the environment switches colours off. Exit code: 0, 2 if an
option is not allowed, 3 if a URL gives no metrics (with --once, --json and --svg), 130 after Ctrl-C."""

UNREADABLE = 3
_SORTS = ("time", "rate", "errors", "p50", "p95", "p99", "queries", "name")
_KEY_LINE = "q quit · sort: t time  r rate  e errors  5 p50  p p95  9 p99  d queries  n name"
_SVG_WIDTH = 100
_REDRAW_SECONDS = 0.5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "urls",
        metavar="URL",
        nargs="+",
        help="where the metrics are, for example http://127.0.0.1:8000/metrics; several services are shown "
        "one below the other",
    )
    parser.add_argument(
        "--interval",
        type=positive_seconds,
        default=5.0,
        metavar="SECONDS",
        help="the time between two scrapes; default: 5",
    )
    parser.add_argument(
        "--window",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="how far back rates and percentiles look; default: 60",
    )
    parser.add_argument("--sort", choices=_SORTS, default="time", help="the order of routes; default: time")
    parser.add_argument(
        "--rows",
        type=int,
        default=20,
        metavar="N",
        help="routes of each service where no terminal limits them; default: 20",
    )
    parser.add_argument(
        "--once", action="store_true", help="scrape twice, with the interval between, print once and end"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="scrape once, print the snapshot of each service as one line of JSON, and end",
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="as --once, but write a picture to a file")
    add_scrape_options(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Show the services; return the exit code."""
    unset_directory()
    # prometheus_client reads the environment when it is imported.
    from web_prom.cli.frame import Order
    from web_prom.cli.output import has_rich
    from web_prom.cli.terminal import is_screen
    from web_prom.errors import SnapshotError

    if given.svg is not None and not has_rich():
        parser.error("--svg needs rich: pip install 'web-prom[cli]'")
    try:
        targets = _targets(given)
    except (SnapshotError, UnreadableTokenError) as error:
        print(f"cannot show: {error}", file=sys.stderr)
        return UNREADABLE
    if given.json:
        return _print_snapshots(targets)
    order = Order(given.sort)
    if given.svg is not None or given.once:
        return _show_once(targets, order, given)
    stop = threading.Event()
    for target in targets:
        threading.Thread(target=target.poll_until, args=(stop, given.interval), daemon=True).start()
    try:
        if is_screen(sys.stdout):
            return _show_screen(targets, order, sys.stdout)
        return _show_blocks(targets, order, given, sys.stdout)
    finally:
        stop.set()


def _targets(given: argparse.Namespace) -> list[Target]:
    from web_prom.cli.targets import Target
    from web_prom.live.taking import remote_source

    headers = headers_of(given)
    return [
        Target(
            url,
            remote_source(
                url, headers=headers, timeout=given.timeout, interval_seconds=max(given.interval, 0.1)
            ),
            given.window,
        )
        for url in given.urls
    ]


def _poll_all(targets: Sequence[Target]) -> None:
    """Take a snapshot of all services at the same time: one that hangs delays no other."""
    threads = [threading.Thread(target=target.poll, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _print_snapshots(targets: Sequence[Target]) -> int:
    _poll_all(targets)
    views = [target.view() for target in targets]
    for view in views:
        document = {"title": view.title, "error": view.error} if view.snapshot is None else view.snapshot
        print(json.dumps(document, allow_nan=False))
    return UNREADABLE if any(view.error for view in views) else 0


def _show_once(targets: Sequence[Target], order: Order, given: argparse.Namespace) -> int:
    from web_prom.cli.frame import frame
    from web_prom.cli.output import Painter, as_svg
    from web_prom.cli.terminal import size_of

    _poll_all(targets)
    # A service that gave no metrics is not worth the wait.
    if any(not target.view().error for target in targets):
        threading.Event().wait(given.interval)
        _poll_all(targets)
    views = [target.view() for target in targets]
    code = UNREADABLE if any(view.error for view in views) else 0
    if given.svg is None:
        width = size_of(sys.stdout)[0]
        print("\n".join(Painter(sys.stdout).paint(frame(views, order, width=width, rows=given.rows), width)))
        return code
    picture = as_svg(frame(views, order, width=_SVG_WIDTH, rows=given.rows), _SVG_WIDTH, "web-prom top")
    try:
        given.svg.write_text(picture, "utf-8")
    except OSError as error:
        print(f"cannot write the picture: {error}", file=sys.stderr)
        return 1
    return code


def _show_blocks(targets: Sequence[Target], order: Order, given: argparse.Namespace, stream: TextIO) -> int:
    """Write a block of text in each interval, for a pipe or a terminal without a screen."""
    from web_prom.cli.frame import frame
    from web_prom.cli.output import Painter
    from web_prom.cli.terminal import size_of

    pause = threading.Event()
    while True:
        pause.wait(given.interval)
        width = size_of(stream)[0]
        lines = frame([target.view() for target in targets], order, width=width, rows=given.rows)
        stream.write("\n".join(Painter(stream).paint(lines, width)) + "\n\n")
        stream.flush()


def _show_screen(targets: Sequence[Target], order: Order, stream: TextIO) -> int:
    """Fill a terminal until a key or a signal ends it."""
    from web_prom.cli.frame import SORT_KEYS, Span, frame
    from web_prom.cli.output import Painter
    from web_prom.cli.terminal import Terminal, size_of
    from web_prom.cli.terminal_text import cut

    names = {key.key: name for name, key in SORT_KEYS.items()}
    painter = Painter(stream)
    with Terminal(stream) as terminal:
        while True:
            size = width, height = size_of(stream)
            footer = 1 if terminal.has_keys else 0
            lines = frame([target.view() for target in targets], order, width=width, height=height - footer)
            if footer:
                lines += [[]] * (height - footer - len(lines))
                lines.append([Span(cut(_KEY_LINE, width), "dim")])
            terminal.show(painter.paint(lines, width))
            for key in terminal.wait(_REDRAW_SECONDS, size):
                if key == "q":
                    return 0
                if key in names:
                    order = order.chosen(names[key])
                    break
