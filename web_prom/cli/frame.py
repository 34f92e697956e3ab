"""The lines that ``web-prom top`` shows, as spans of text with the names of styles."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from web_prom.cli.numbers import age, count, duration, in_bytes, percent, rate, sparkline
from web_prom.cli.targets import View
from web_prom.cli.terminal_text import clean, cut, padded, width_of
from web_prom.live.model import RouteRow, exception_table, quantile

MIN_WIDTH = 40
_MIN_ROUTE_WIDTH = 22
_TREND_WIDTH = 8
_MAX_WORKERS = 8
_MAX_EXCEPTIONS = 3
_MAX_VERDICTS = 4
_HIGH_ERRORS = 0.01
_HIGH_UTILISATION = 0.8


class Span(NamedTuple):
    """A piece of a line.

    Attributes:
        text: The text.
        style: A key of :data:`web_prom.cli.output.STYLES`, or "".
    """

    text: str
    style: str = ""


Line = list[Span]


class SortKey(NamedTuple):
    """An order of routes.

    Attributes:
        key: The key that chooses it.
        value: Returns what rows are sorted by.
        descending: Whether the highest value comes first.
    """

    key: str
    value: Callable[[RouteRow], float | str | None]
    descending: bool = True


SORT_KEYS = {
    "time": SortKey("t", lambda row: row.share),
    "rate": SortKey("r", lambda row: row.requests),
    "errors": SortKey("e", lambda row: row.errors),
    "p50": SortKey("5", lambda row: row.p50),
    "p95": SortKey("p", lambda row: row.p95),
    "p99": SortKey("9", lambda row: row.p99),
    "queries": SortKey("d", lambda row: row.queries),
    "name": SortKey("n", lambda row: row.route, descending=False),
}


class Order(NamedTuple):
    """How routes are sorted.

    Attributes:
        name: A key of :data:`SORT_KEYS`.
        is_reversed: Whether the usual direction is turned round.
    """

    name: str = "time"
    is_reversed: bool = False

    def chosen(self, name: str) -> Order:
        """Return the order after a key was pressed: the same key again reverses it."""
        return Order(name, name == self.name and not self.is_reversed)

    def sorted(self, rows: Sequence[RouteRow]) -> list[RouteRow]:
        """Return rows in this order. Those without a value come last."""
        key = SORT_KEYS[self.name]
        known = [row for row in rows if key.value(row) is not None]
        unknown = [row for row in rows if key.value(row) is None]
        known.sort(key=lambda row: row.key)
        known.sort(key=key.value, reverse=key.descending != self.is_reversed)  # type: ignore[arg-type]
        return known + unknown


def frame(
    views: Sequence[View], order: Order, *, width: int, height: int | None = None, rows: int = 20
) -> list[Line]:
    """Return the lines for some services.

    Args:
        views: The services.
        order: How routes are sorted.
        width: Columns of the terminal. No line is wider.
        height: Lines of the terminal; the routes that do not fit are left out.
        rows: The largest number of routes of each service.
    """
    width = max(width, MIN_WIDTH)
    if height is not None:
        used = sum(len(_service(view, order, width, 0)) for view in views) + len(views)
        rows = max((height - used) // len(views), 1)
    lines: list[Line] = []
    for view in views:
        lines += [[]] if lines else []
        lines += _service(view, order, width, rows)
    return lines if height is None else lines[:height]


def _service(view: View, order: Order, width: int, rows: int) -> list[Line]:
    lines = [_title(view, width)]
    if view.error:
        lines += _wrapped("ERROR", "critical", clean(view.error), width)
    if view.snapshot is None:
        return lines if view.error else [*lines, [Span("Waiting for the first scrape.", "dim")]]
    for verdict in view.snapshot["verdicts"][:_MAX_VERDICTS]:
        severity = verdict["severity"]
        lines += _wrapped(severity.upper(), severity, clean(verdict["summary"]), width)
        if severity in ("warning", "critical"):
            lines += _wrapped("", "dim", clean(verdict["remedy"]), width)
    lines += _figures(view, width)
    lines += _routes(view, order, width, rows)
    lines += _exceptions(view, width)
    lines += _workers(view)
    return lines


def _title(view: View, width: int) -> Line:
    note = ""
    if view.snapshot is not None:
        window = f"last {age(view.window.elapsed)}" if view.window else "since the start"
        note = f"{window} · {view.snapshot['cost']['series']:,} series"
    title = cut(clean(view.title), width - len(note) - 2)
    return [Span(title, "title"), Span(" " * (width - width_of(title) - len(note)) + note, "dim")]


def _wrapped(label: str, style: str, text: str, width: int) -> list[Line]:
    indent = 10
    parts = textwrap.wrap(text, width - indent, break_long_words=True) or [""]
    text_style = "dim" if not label else ""
    return [
        [Span((label if not at else "").ljust(indent), style), Span(part, text_style)]
        for at, part in enumerate(parts)
    ]


def _figures(view: View, width: int) -> list[Line]:
    assert view.snapshot is not None
    window, bounds = view.window, view.snapshot["requests"]["buckets"]
    figures = [("In progress", count(view.snapshot["requests"]["in_progress"]), "")]
    if window is not None:
        bad = "critical" if (window.errors or 0) > _HIGH_ERRORS else ""
        figures = [
            ("Requests/s", rate(window.rate), ""),
            ("Errors", percent(window.errors), bad),
            *(
                (f"p{wanted * 100:.0f}", _estimate(bounds, quantile(bounds, window.counts, wanted)), "")
                for wanted in (0.5, 0.95, 0.99)
            ),
            *figures,
        ]
        if window.utilisation is not None:
            busy = "warning" if window.utilisation > _HIGH_UTILISATION else ""
            figures.append(("Workers busy", percent(window.utilisation), busy))
        if window.queue_mean is not None:
            figures.append(("Queue", duration(window.queue_mean), ""))
    lines: list[Line] = [[]]
    for name, value, style in figures:
        length = sum(width_of(span.text) for span in lines[-1])
        if length + len(name) + len(value) + 1 > width:
            lines.append([])
        lines[-1] += [Span(f"{name} ", "dim"), Span(value, style or "bold"), Span("  ")]
    return [*lines, *_sparklines(view, width)]


def _estimate(bounds: Sequence[float | None], value: float | None) -> str:
    """Return an estimated duration. Of what is above the highest bound, no more is known."""
    highest = bounds[-2] if len(bounds) > 1 else None
    is_highest = value is not None and highest is not None and value >= highest
    return f"{'≥ ' if is_highest else ''}{duration(value)}"


def _sparklines(view: View, width: int) -> list[Line]:
    if len(view.steps) < 2:
        return []
    assert view.snapshot is not None
    bounds = view.snapshot["requests"]["buckets"]
    latencies = [quantile(bounds, step.counts, 0.95) or 0.0 for step in view.steps]
    shown = [
        ("Requests/s ", [step.rate for step in view.steps], "bar"),
        ("p95 ", latencies, "bar"),
        ("Errors ", [step.failed / step.elapsed for step in view.steps], "critical"),
    ]
    room = (width - sum(len(name) + 2 for name, _, _ in shown)) // len(shown)
    line: Line = []
    for name, values, style in shown:
        line += [Span(name, "dim"), Span(sparkline(values, room).ljust(room), style), Span("  ")]
    return [line[:-1]]


class _Column(NamedTuple):
    name: str
    width: int
    show: Callable[[RouteRow], Span]


def _columns(view: View, width: int) -> list[_Column]:
    """Return the columns after that of the route, as many as leave room for it."""

    def errors(row: RouteRow) -> Span:
        return Span(percent(row.errors), "critical" if (row.errors or 0) > _HIGH_ERRORS else "")

    def queries(row: RouteRow) -> Span:
        # One repeated query per request is the sign of a loop of queries.
        return Span(rate(row.queries), "warning" if (row.repeated or 0) >= 1 else "")

    def trend(row: RouteRow) -> Span:
        return Span(sparkline(view.trends.get(row.key, []), _TREND_WIDTH), "bar")

    assert view.snapshot is not None
    bounds = view.snapshot["requests"]["buckets"]
    columns = [
        _Column("rate", 7, lambda row: Span(rate(row.rate)))
        if view.window
        else _Column("requests", 8, lambda row: Span(count(row.requests))),
        _Column("errors", 7, errors),
        _Column("p50", 7, lambda row: Span(_estimate(bounds, row.p50))),
        _Column("p95", 7, lambda row: Span(_estimate(bounds, row.p95))),
        _Column("p99", 7, lambda row: Span(_estimate(bounds, row.p99))),
        _Column("queries", 7, queries),
        _Column("time", 7, lambda row: Span(percent(row.share))),
        _Column("trend", _TREND_WIDTH, trend),
    ]
    left_out = set()
    if not any(row.queries is not None for row in view.routes):
        left_out.add("queries")
    if len(view.steps) < 2:
        left_out.add("trend")
    for name in ("", "p50", "trend", "p99", "queries", "time", "errors"):
        left_out.add(name)
        shown = [column for column in columns if column.name not in left_out]
        if width - sum(column.width + 1 for column in shown) >= _MIN_ROUTE_WIDTH:
            break
    return shown


def _routes(view: View, order: Order, width: int, rows: int) -> list[Line]:
    if not view.routes:
        return [[Span("No request in this window.", "dim")]]
    columns = _columns(view, width)
    room = width - sum(column.width + 1 for column in columns)
    header = [Span(f"Route (by {order.name})".ljust(room)[:room], "header")]
    header += [Span(column.name.rjust(column.width + 1), "header") for column in columns]
    lines: list[Line] = [header]
    for row in order.sorted(view.routes)[:rows]:
        line = [Span(padded(cut(clean(row.key), room), room))]
        for column in columns:
            span = column.show(row)
            line += [Span(" " * (column.width + 1 - width_of(span.text))), span]
        lines.append(line)
    left = len(view.routes) - rows
    if rows and left > 0:
        lines.append([Span(f"and {left} more", "dim")])
    return lines


def _exceptions(view: View, width: int) -> list[Line]:
    found = exception_table(view.routes)[:_MAX_EXCEPTIONS]
    lines: list[Line] = []
    for name, times, row in found:
        text = f"{clean(name)} x {count(times)} in {clean(row.key)}"
        lines.append([Span("Exception ", "warning"), Span(cut(text, width - 10))])
    return lines


def _workers(view: View) -> list[Line]:
    if not view.workers:
        return []
    lines: list[Line] = [[Span(f"{'Worker':<14} {'CPU':>8} {'memory':>8} {'age':>8} {'files':>6}", "header")]]
    for row in view.workers[:_MAX_WORKERS]:
        name = padded(cut(clean(row.worker), 14), 14)
        values = f"{percent(row.cpu):>8} {in_bytes(row.memory):>8} {age(row.age):>8} {count(row.files):>6}"
        lines.append([Span(f"{name} {values}")])
    left = len(view.workers) - _MAX_WORKERS
    return [*lines, [Span(f"and {left} more", "dim")]] if left > 0 else lines
