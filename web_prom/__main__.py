"""The command line: ``python -m web_prom COMMAND``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from web_prom.cli import check, serve


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m web_prom", description="Commands of web-prom.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in (("serve", serve), ("check", check)):
        subparser = commands.add_parser(
            name,
            allow_abbrev=False,
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=command.EPILOG,
        )
        command.add_options(subparser)
        subparser.set_defaults(run=command.run, parser=subparser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    given = make_parser().parse_args(arguments)
    return int(given.run(given, given.parser))


if __name__ == "__main__":
    sys.exit(main())
