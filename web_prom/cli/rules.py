"""``web-prom rules``: recording and alert rules for Prometheus, as YAML."""

from __future__ import annotations

import argparse
import math

HELP = "print recording and alert rules for Prometheus"
DESCRIPTION = (
    "Print recording and alert rules for Prometheus as YAML, for the names that your applications have."
)
EPILOG = """\
Exit code: 0, or 2 if an option is not allowed. Write the rules into a file of Prometheus' rule_files, and
check it with 'promtool check rules'."""

PARTS = ("recording", "alerts", "saturation")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "--job",
        action="append",
        default=[],
        metavar="NAME",
        help="a value of the label job to limit the rules to; may be given several times; default: all jobs "
        "that web-prom measures, each on its own",
    )
    parser.add_argument(
        "--slo",
        type=_number,
        default=99.9,
        metavar="PERCENT",
        help="of the requests that must not end in a server error; default: 99.9",
    )
    parser.add_argument(
        "--latency",
        type=_number,
        default=0.5,
        metavar="SECONDS",
        help="within which requests must end: one of the buckets of their durations; default: 0.5",
    )
    parser.add_argument(
        "--latency-slo",
        type=_number,
        default=99.0,
        metavar="PERCENT",
        help="of the requests that must end within these seconds; default: 99",
    )
    parser.add_argument(
        "--min-rate",
        type=_number,
        default=0.1,
        metavar="NUMBER",
        help="requests in a second below which no ratio of requests alerts anybody; default: 0.1",
    )
    parser.add_argument(
        "--naming",
        default="prometheus",
        metavar="NAME",
        help="PROM_NAMING of the applications; default: prometheus",
    )
    parser.add_argument(
        "--namespace", default="", metavar="PREFIX", help="PROM_NAMESPACE of the applications; default: none"
    )
    parser.add_argument(
        "--buckets",
        type=_numbers,
        metavar="SECONDS,...",
        help="PROM_DURATION_BUCKETS of the applications; default: those of the naming",
    )
    parser.add_argument(
        "--sample-limit",
        type=_whole,
        default=0,
        metavar="NUMBER",
        help="sample_limit of Prometheus' configuration, for an alert on replicas that come near it; "
        "default: none",
    )
    parser.add_argument(
        "--runbooks",
        metavar="URL",
        help="of the page of the runbooks, to which each alert adds its anchor; default: its path in the "
        "repository",
    )
    parser.add_argument(
        "--part",
        action="append",
        choices=PARTS,
        help="print only a part of the rules; may be given several times; alerts and saturation need the "
        "series that recording records; default: all",
    )


_OPTIONS = {"naming": "--naming", "namespace": "--namespace", "duration_buckets": "--buckets"}
"""The options of the command by the settings that they are."""


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print the rules, and return the exit code."""
    # prometheus_client reads the environment when it is imported, and `serve` changes the environment first.
    from web_prom.config.settings import Config
    from web_prom.errors import ConfigError
    from web_prom.rules.model import RUNBOOKS, RuleOptions
    from web_prom.rules.parts import rule_groups
    from web_prom.rules.yaml_text import as_yaml

    settings = {"naming": given.naming, "namespace": given.namespace}
    if given.buckets is not None:
        settings["duration_buckets"] = given.buckets
    try:
        options = RuleOptions(
            config=Config.load(settings),
            jobs=tuple(dict.fromkeys(given.job)),
            slo=given.slo,
            latency=given.latency,
            latency_slo=given.latency_slo,
            min_rate=given.min_rate,
            sample_limit=given.sample_limit,
            runbooks=RUNBOOKS if given.runbooks is None else given.runbooks,
        )
    except ConfigError as error:
        message = str(error)
        for name, option in _OPTIONS.items():
            message = message.replace(f"option {name!r}", option)
        parser.error(message)
    print(as_yaml(rule_groups(options, given.part or PARTS), options), end="")
    return 0


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return number


def _numbers(text: str) -> list[float]:
    return [_number(part) for part in text.split(",")]


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)
