"""Label values of methods and statuses, and the limit on the label sets of a family."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from web_prom.metrics.labels import (
    OTHER,
    OVERFLOW,
    STANDARD_METHODS,
    LabelSetLimiter,
    known_methods,
    sanitize_label_value,
    status_label,
)

SETTINGS = settings(deadline=None, max_examples=60, database=None)


def test_standard_methods_are_those_of_the_documentation() -> None:
    assert " ".join(STANDARD_METHODS) == "GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH QUERY"


def test_known_methods_with_extra_methods() -> None:
    methods = known_methods(["PROPFIND"])
    assert methods["PROPFIND"] == "PROPFIND"
    assert methods["GET"] == "GET"
    assert "LOCK" not in methods
    assert "get" not in methods, "methods are case-sensitive"


@pytest.mark.parametrize(
    ("code", "expected"), [("200", "200"), ("404", "404"), ("599", "599"), ("999", "999")]
)
def test_status_label_of_a_valid_code(code: str, expected: str) -> None:
    assert status_label(code) == expected


@pytest.mark.parametrize(("code", "expected"), [("200", "2xx"), ("404", "4xx"), ("503", "5xx")])
def test_status_label_with_classes(code: str, expected: str) -> None:
    assert status_label(code, classes=True) == expected


@pytest.mark.parametrize("code", ["", "2", "20", "2000", "OK", "abc", "20x", " 20", "-20", "٢٠٠", "²00"])
@pytest.mark.parametrize("classes", [False, True])
def test_status_label_of_an_invalid_code_is_other(code: str, classes: bool) -> None:
    assert status_label(code, classes=classes) == OTHER


@SETTINGS
@given(st.text(max_size=5), st.booleans())
def test_status_label_has_bounded_values(code: str, classes: bool) -> None:
    label = status_label(code, classes=classes)
    assert label == OTHER or (len(label) == 3 and label[0] in "0123456789")


@SETTINGS
@given(st.text(st.characters(exclude_categories=[])))
def test_sanitize_label_value_can_be_encoded(text: str) -> None:
    sanitize_label_value(text).encode("utf-8")
    if text.isprintable():
        assert sanitize_label_value(text) == text


@SETTINGS
@given(st.text(st.characters(exclude_categories=[])))
def test_fault_55_sanitize_label_value_is_a_single_line(text: str) -> None:
    """The format escapes a line feed. All other line ends of ``str.splitlines()`` are replaced."""
    assert len(sanitize_label_value(text).replace("\n", "\\n").splitlines()) <= 1


def test_fault_55_sanitize_label_value_replaces_control_characters() -> None:
    assert sanitize_label_value("a\r\x00b\x85\u2028\u2029c\x1b[31m\x7f\td") == "a??b???c?[31m??d"
    assert sanitize_label_value("snow\nman \u2603 \u200b \U0001f600") == "snow\nman \u2603 \u200b \U0001f600"


# LabelSetLimiter ------------------------------------------------------------------------------------


def test_limiter_folds_label_sets_over_the_limit() -> None:
    limiter = LabelSetLimiter(2, [True, False, True, False])
    first, second, third = (("GET", f"/{n}", "200", f"x{n}") for n in range(3))
    assert limiter.admit(first) == first
    assert limiter.admit(second) == second
    assert limiter.admit(third) == ("GET", OVERFLOW, "200", OVERFLOW)
    assert limiter.admit(first) == first, "what was admitted stays"
    assert limiter.admit(third) == ("GET", OVERFLOW, "200", OVERFLOW), "what was folded stays folded"


def test_limiter_keeps_empty_values() -> None:
    """The limit must not add a value that a request did not have."""
    limiter = LabelSetLimiter(1, [True, False, False])
    limiter.admit(("GET", "/", ""))
    assert limiter.admit(("GET", "/x", "")) == ("GET", OVERFLOW, "")
    assert limiter.admit(("GET", "", "KeyError")) == ("GET", "", OVERFLOW)


def test_limiter_does_not_keep_label_sets_over_the_limit() -> None:
    limiter = LabelSetLimiter(1, [False])
    for number in range(100):
        limiter.admit((str(number),))
    assert len(limiter._admitted) == 1


def test_limiter_with_threads() -> None:
    limiter = LabelSetLimiter(50, [False])
    admitted: list[set[tuple[str, ...]]] = [set() for _ in range(4)]
    start = threading.Barrier(4)

    def admit(mine: set[tuple[str, ...]], offset: int) -> None:
        start.wait()
        for number in range(200):
            values = (str((number + offset) % 100),)
            if limiter.admit(values) == values:
                mine.add(values)

    threads = [threading.Thread(target=admit, args=(mine, 25 * n)) for n, mine in enumerate(admitted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set().union(*admitted)) == 50


@SETTINGS
@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("uvwxyz")), max_size=40))
def test_limiter_never_exceeds_the_limit(limit: int, sets: list[tuple[str, str]]) -> None:
    limiter = LabelSetLimiter(limit, [True, False])
    admitted = [limiter.admit(values) for values in sets]
    assert len({values for values in admitted if values[1] != OVERFLOW}) <= limit
    assert all(out[0] == values[0] for out, values in zip(admitted, sets, strict=True)), "closed labels stay"
