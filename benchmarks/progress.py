"""The progress of a benchmark, shown on a terminal."""

from __future__ import annotations

import sys


def show_progress(title: str, line: str, rounds: int) -> bool:
    """Show the progress of a process, if its line is a number. Return whether it is."""
    if not line.isdecimal():
        return False
    if sys.stderr.isatty():
        print(f"\r{title}: round {line} of {rounds} ", end="", file=sys.stderr, flush=True)
    elif line == "1":
        print(f"{title} ...", file=sys.stderr, flush=True)
    return True


def erase_progress() -> None:
    """Remove the progress from the terminal."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
