"""``web-prom dashboard``: dashboards for Grafana, as JSON."""

from __future__ import annotations

import argparse
import difflib
import json

HELP = "print a dashboard for Grafana"
DESCRIPTION = (
    "Print a dashboard for Grafana as JSON, for the names that your applications have. Import it with "
    "Dashboards > New > Import, or put it into a folder that Grafana provisions."
)
EPILOG = """\
Exit code: 0, or 2 if the dashboard does not exist or an option is not allowed. The dashboards link to each
other, so print all of them with the same options."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "name",
        nargs="?",
        default="service",
        metavar="NAME",
        help="which one: service, route, database or workers; default: service",
    )
    parser.add_argument("--list", action="store_true", help="list the dashboards, and what each answers")
    parser.add_argument(
        "--naming",
        default="prometheus",
        metavar="NAME",
        help="PROM_NAMING of the applications: prometheus or opentelemetry; default: prometheus",
    )
    parser.add_argument(
        "--namespace", default="", metavar="PREFIX", help="PROM_NAMESPACE of the applications; default: none"
    )
    parser.add_argument(
        "--uid",
        default="",
        metavar="PREFIX",
        help="the first part of the dashboards' uids, to which each adds its name; default: web-prom",
    )
    parser.add_argument(
        "--title", default="", metavar="TEXT", help="the first part of the titles; default: web-prom"
    )
    parser.add_argument(
        "--docs",
        default="",
        metavar="URL",
        help="of the page about the dashboards, to which each dashboard links; default: its path is named",
    )


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print a dashboard or the list, and return the exit code."""
    # prometheus_client reads the environment when it is imported, and `serve` changes the environment first.
    from web_prom.dashboards import DASHBOARDS, DashboardOptions, build_dashboard
    from web_prom.errors import ConfigError

    if given.name not in DASHBOARDS:
        close = difflib.get_close_matches(given.name, DASHBOARDS, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        parser.error(f"there is no dashboard {given.name!r}; dashboards: {', '.join(DASHBOARDS)}{meant}")
    try:
        options = DashboardOptions(
            naming=given.naming,
            namespace=given.namespace,
            uid=given.uid,
            title=given.title,
            docs=given.docs,
        )
    except ConfigError as error:
        parser.error(str(error))
    if given.list:
        for name in DASHBOARDS:
            print(f"{name:<10} {build_dashboard(name, options)['description']}")
    else:
        # JSON with escapes is the same in each encoding of a terminal.
        print(json.dumps(build_dashboard(given.name, options), indent=2))
    return 0
