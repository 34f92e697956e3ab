"""Numbers and label values as the text formats write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from web_prom.upstream.registry import float_text

# From this value on, Go and therefore prometheus_client write an exponent.
EXPONENT_FROM = 1e6
MINUS_INFINITY = float("-inf")


def format_number(value: float) -> str:
    """Return the value of a sample as text."""
    if MINUS_INFINITY < value < EXPONENT_FROM:
        return repr(value)
    return float_text(value)


def format_numbers(values: Sequence[float]) -> Iterator[str]:
    """Return the values of several samples as text.

    Args:
        values: At least one value. All of them are floats.
    """
    # With a NaN among the values the sum is NaN, and the comparison is false.
    all_ordinary = max(values) < EXPONENT_FROM and sum(values) > MINUS_INFINITY
    return map(repr if all_ordinary else format_number, values)


def escape_label_value(value: str) -> str:
    """Return the value of a label with backslashes, line feeds and quotation marks escaped."""
    if "\\" in value or "\n" in value or '"' in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value
