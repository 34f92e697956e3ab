"""Options that several commands have: how a URL is read."""

from __future__ import annotations

import argparse
from pathlib import Path

from web_prom.config.credentials import read_secret
from web_prom.config.headers import is_header

MIN_SECONDS = 0.1
MAX_SECONDS = 3600.0


class UnreadableTokenError(Exception):
    """The file with the token cannot be read."""


def add_scrape_options(parser: argparse.ArgumentParser, timeout: float = 10.0) -> None:
    """Add the options of a scrape: ``--timeout``, ``--header`` and ``--bearer-token-file``."""
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        default=timeout,
        metavar="SECONDS",
        help=f"for each scrape; default: {timeout:g}",
    )
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        type=header,
        metavar="'NAME: VALUE'",
        help="a header to send; may be given several times",
    )
    parser.add_argument(
        "--bearer-token-file", type=Path, metavar="FILE", help="a file with the token that /metrics asks for"
    )


def headers_of(given: argparse.Namespace) -> dict[str, str]:
    """Return the headers that the options name.

    Raises:
        UnreadableTokenError: The file with the token cannot be read.
    """
    headers = dict(given.header)
    if given.bearer_token_file is not None:
        headers["Authorization"] = f"Bearer {_token(given.bearer_token_file)}"
    return headers


def seconds(text: str) -> float:
    """Return a number of seconds of an option.

    Raises:
        ArgumentTypeError: The text is no number from 0 to an hour.
    """
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {MAX_SECONDS:g}")
    return found


def positive_seconds(text: str) -> float:
    """Return a number of seconds that is at least a tenth.

    Raises:
        ArgumentTypeError: The text is no number from 0.1 to an hour.
    """
    try:
        found = seconds(text)
    except argparse.ArgumentTypeError:
        found = 0.0
    if found < MIN_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds from {MIN_SECONDS} to {MAX_SECONDS:g}"
        )
    return found


def header(text: str) -> tuple[str, str]:
    """Return the name and the value of a header of an option.

    Raises:
        ArgumentTypeError: The text is no header.
    """
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not colon or not is_header(name, value):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a header: write 'Name: value' in one line, with the characters of Latin-1"
        )
    return name, value


def _token(path: Path) -> str:
    try:
        token = read_secret(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableTokenError(f"the token cannot be read from {path}: {error}") from error
    if not (token and token.isascii() and token.isprintable()):
        raise UnreadableTokenError(f"the token cannot be read from {path}: it must be one line of ASCII")
    return token
