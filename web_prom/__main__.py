# PYTHON_ARGCOMPLETE_OK
"""The command line: ``web-prom COMMAND``, or ``python -m web_prom COMMAND``."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence

from web_prom.cli import check, dashboard, live, rules, serve, top, version
from web_prom.cli.parser import Command, make_parser
from web_prom.cli.terminal_text import SUBSTITUTE

COMMANDS: dict[str, Command] = {
    "serve": serve,
    "live": live,
    "check": check,
    "top": top,
    "rules": rules,
    "dashboard": dashboard,
    "version": version,
}

FAILED = 70
"""The exit code of a command whose output cannot be written, or that raised an exception."""

_OUTPUT_ERRORS = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Args:
        arguments: The arguments; by default those of the process.
    """
    parser = make_parser(COMMANDS)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        import argcomplete

        argcomplete.autocomplete(parser)
    try:
        return _run(parser, arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe, for example `head`, has ended. Nothing more can be written.
        sys.stdout = None
        return 141
    except Exception as error:
        # Otherwise Python tries to write the rest of the output as it ends.
        sys.stdout = None
        with contextlib.suppress(OSError):
            if isinstance(error, OSError) and error.errno in _OUTPUT_ERRORS:
                print(f"web-prom: the output cannot be written: {error.strerror}", file=sys.stderr)  # noqa: T201
            else:
                traceback.print_exc()
        return FAILED


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=SUBSTITUTE)
    try:
        given = parser.parse_args(arguments)
        return int(given.run(given, given.parser))
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
