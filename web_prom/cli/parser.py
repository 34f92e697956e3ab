"""The parser of the command line. Its messages list what exists."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol


class Command(Protocol):
    """A module with one command."""

    HELP: str
    """A line for the list of commands."""

    DESCRIPTION: str
    EPILOG: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the command to its parser."""

    def run(self, given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
        """Run the command; return its exit code."""


class CommandParser(argparse.ArgumentParser):
    """A parser that lists the options or commands that exist if one is unknown."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments. Those that are unknown are an error of the command that they were given to."""
        given, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}; {self._options_for(unknown[0])}")
        return given, []

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with code 2."""
        found = message.partition("invalid choice: ")[2].partition(" (choose from ")
        if message.startswith("argument COMMAND: ") and found[1]:
            names = ", ".join(self.command_names())
            message = (
                f"there is no command {found[0]}; commands: {names}{_meant(found[0], self.command_names())}"
            )
        elif message.endswith("required: COMMAND"):
            message = f"{message}; commands: {', '.join(self.command_names())}"
        super().error(message)

    def command_names(self) -> list[str]:
        """Return the names of the commands, in the order in which they were added."""
        found = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return [name for action in found for name in action.choices]

    def _options_for(self, unknown: str) -> str:
        names = [
            option
            for action in self._actions
            if action.help != argparse.SUPPRESS
            for option in action.option_strings
            if option.startswith("--")
        ]
        return f"options: {', '.join(names)}{_meant(unknown.partition('=')[0], names)}"


def make_parser(commands: dict[str, Command]) -> CommandParser:
    """Return the parser of some commands by their names."""
    parser = CommandParser(
        prog="web-prom",
        description="Measure Python web applications with Prometheus, and look at the result.",
        epilog="'web-prom COMMAND --help' describes a command. 'python -m web_prom' is the same program.",
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in commands.items():
        subparser = subparsers.add_parser(
            name,
            allow_abbrev=False,
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=command.EPILOG,
        )
        command.add_options(subparser)
        subparser.set_defaults(run=command.run, parser=subparser)
    return parser


def _meant(unknown: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(unknown.strip("'"), names, n=1)
    return f"; did you mean {close[0]}?" if close else ""
