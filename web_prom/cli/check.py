"""``web-prom check URL``: verdicts on a running service, and an exit code for scripts."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from web_prom.cli.options import UnreadableTokenError, add_scrape_options, headers_of, seconds

if TYPE_CHECKING:
    from web_prom.advice.verdict import Verdict

HELP = "say what is wrong with a running service, and what to do"
DESCRIPTION = "Scrape a service twice and say what is wrong with it, and what to do."
EPILOG = """\
Exit code: 0 if nothing is wrong, 1 if there are warnings, 2 if something is critical or an option is not
allowed, 3 if the URL gives no metrics."""

UNREADABLE = 3
_WIDTH = 80


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "url", metavar="URL", help="where the metrics are, for example http://127.0.0.1:8000/metrics"
    )
    parser.add_argument(
        "--window",
        type=seconds,
        default=30.0,
        metavar="SECONDS",
        help="the time between the two scrapes; 0 scrapes once, which says nothing about rates; default: 30",
    )
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    add_scrape_options(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Check the service, print the verdicts, and return the exit code."""
    # prometheus_client reads the environment when it is imported, and `serve` changes the environment first.
    from web_prom.advice.advise import verdicts
    from web_prom.advice.scrapes import Window
    from web_prom.advice.verdict import Severity
    from web_prom.cli.fetch import UnreadableScrapeError, fetch
    from web_prom.live.advised_scrape import AdvisedScrape

    try:
        headers = headers_of(given)
        before = None
        if given.window:
            before = AdvisedScrape(fetch(given.url, headers, given.timeout), time.time())
            time.sleep(given.window)
        scrape = fetch(given.url, headers, given.timeout)
        window = Window(AdvisedScrape(scrape, time.time()), before)
    except (UnreadableScrapeError, UnreadableTokenError) as error:
        if given.json:
            print(json.dumps({"error": str(error)}))
        else:
            print(f"cannot check: {error}", file=sys.stderr)
        return UNREADABLE
    found = verdicts(window)
    if given.json:
        print(json.dumps({"verdicts": [verdict.as_json() for verdict in found]}, indent=2))
    else:
        print(as_text(found))
    worst = max(verdict.severity for verdict in found)
    return {Severity.WARNING: 1, Severity.CRITICAL: 2}.get(worst, 0)


def as_text(found: Sequence[Verdict]) -> str:
    """Return verdicts as lines for a terminal."""
    lines: list[str] = []
    for verdict in found:
        label = f"{verdict.severity.name:<8}  "
        indent = " " * len(label)
        lines += textwrap.wrap(label + verdict.summary, _WIDTH, subsequent_indent=indent)
        lines += textwrap.wrap(verdict.remedy, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)
