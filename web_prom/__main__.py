# PYTHON_ARGCOMPLETE_OK
"""The command line: ``web-prom COMMAND``, or ``python -m web_prom COMMAND``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from web_prom.cli import check, dashboard, live, rules, serve, top, version
from web_prom.cli.parser import Command, make_parser

COMMANDS: dict[str, Command] = {
    "serve": serve,
    "live": live,
    "check": check,
    "top": top,
    "rules": rules,
    "dashboard": dashboard,
    "version": version,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Args:
        arguments: The arguments; by default those of the process.
    """
    parser = make_parser(COMMANDS)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        import argcomplete

        argcomplete.autocomplete(parser)
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given, given.parser))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe, for example `head`, has ended. Nothing more can be written.
        sys.stdout = None
        return 141


if __name__ == "__main__":
    sys.exit(main())
