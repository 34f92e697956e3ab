"""How numbers are written on a terminal. The live page writes them the same way, in ``assets/text.js``."""

from __future__ import annotations

ABSENT = "\u2013"

BARS = "▁▂▃▄▅▆▇█"


def count(value: float | None) -> str:
    """Return a number of things."""
    if value is None:
        return ABSENT
    if abs(value) >= 1e6:
        return f"{_trimmed(value / 1e6, 1)} M"
    return _trimmed(value, 2 if value < 10 and value % 1 else 0)


def rate(value: float | None) -> str:
    """Return a number of things per second."""
    if value is None:
        return ABSENT
    if value >= 1e4:
        return f"{_trimmed(value / 1e3, 1)} k"
    return _trimmed(value, 2 if value < 10 else 1 if value < 100 else 0)


def percent(value: float | None) -> str:
    """Return a ratio as a percentage."""
    if value is None:
        return ABSENT
    scaled = value * 100
    if 0 < scaled < 0.1:
        return "< 0.1 %"
    return f"{_trimmed(scaled, 1 if scaled < 10 else 0)} %"


def duration(seconds: float | None) -> str:
    """Return seconds in the unit that fits."""
    if seconds is None:
        return ABSENT
    if seconds == 0:
        return "0 ms"
    if seconds < 1e-3:
        return f"{_trimmed(seconds * 1e6, 0)} µs"
    if seconds < 1:
        return f"{_trimmed(seconds * 1e3, 1 if seconds < 0.01 else 0)} ms"
    return f"{_trimmed(seconds, 2 if seconds < 10 else 0)} s"


def age(seconds: float | None) -> str:
    """Return seconds as an age."""
    if seconds is None:
        return ABSENT
    for limit, length, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{max(round(seconds / length), 0)} {unit}"
    return f"{round(seconds / 86400)} days"


def in_bytes(value: float | None) -> str:
    """Return a number of bytes in the unit that fits."""
    if value is None:
        return ABSENT
    units = ("B", "kB", "MB", "GB", "TB")
    at = 0
    while value >= 1000 and at < len(units) - 1:
        value /= 1000
        at += 1
    return f"{_trimmed(value, 1 if value < 10 and at else 0)} {units[at]}"


def sparkline(values: list[float], width: int) -> str:
    """Return the latest values as bars, from 0 to the highest of them."""
    shown = values[-width:]
    highest = max(shown, default=0.0)
    if not highest:
        return BARS[0] * len(shown)
    return "".join(BARS[min(int(max(value, 0.0) / highest * len(BARS)), len(BARS) - 1)] for value in shown)


def _trimmed(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text
