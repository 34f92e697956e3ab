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
DESCRIPTION = (
    "Scrape a service twice and say what is wrong with it, and what to do: verdicts, mistakes of its set-up, "
    "names that break the rules of 'promtool check metrics', and the families with the most series."
)
EPILOG = """\
The verdicts alone decide the exit code: 0 if nothing is wrong, 1 if there are warnings, 2 if something is
critical or an option is not allowed, 3 if the URL gives no metrics."""

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
    from web_prom.cli.cardinality import cardinality
    from web_prom.cli.fetch import UnreadableScrapeError, fetch_snapshot
    from web_prom.cli.lint import lint
    from web_prom.cli.report import costs_as_text, mistakes_as_text, remarks_as_text, set_up_mistakes
    from web_prom.live.advised_scrape import AdvisedScrape

    earlier = before = None
    try:
        headers = headers_of(given)
        if given.window:
            earlier, _ = fetch_snapshot(given.url, headers, given.timeout)
            before = AdvisedScrape(earlier, time.time())
            time.sleep(given.window)
        scrape, snapshot = fetch_snapshot(given.url, headers, given.timeout)
        window = Window(AdvisedScrape(scrape, time.time()), before)
    except (UnreadableScrapeError, UnreadableTokenError) as error:
        if given.json:
            print(json.dumps({"error": str(error)}))
        else:
            print(f"cannot check: {error}", file=sys.stderr)
        return UNREADABLE
    found = verdicts(window)
    costs, remarks, mistakes = cardinality(scrape), lint(scrape, earlier), set_up_mistakes(scrape, snapshot)
    if given.json:
        document = {
            "verdicts": [verdict.as_json() for verdict in found],
            "set_up": mistakes,
            "cardinality": costs.as_json(),
            "lint": [remark._asdict() for remark in remarks],
        }
        print(json.dumps(document, indent=2))
    else:
        print(as_text(found))
        for lines in (mistakes_as_text(mistakes), remarks_as_text(remarks), costs_as_text(costs)):
            print(*["", *lines] if lines else [], sep="\n", end="\n" if lines else "")
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
