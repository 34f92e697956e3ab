"""The mark on views that are not to be measured."""

from __future__ import annotations

import functools
from typing import Any

from web_prom import exclude
from web_prom.metrics.exclusion import is_excluded


def test_a_view_is_returned_itself_with_a_mark() -> None:
    def view() -> str:
        return "x"

    assert not is_excluded(view)
    assert exclude(view) is view
    assert is_excluded(view)
    assert view() == "x"


def test_an_async_view_can_be_marked() -> None:
    @exclude
    async def view() -> None: ...

    assert is_excluded(view)


def test_a_decorator_that_keeps_to_functools_keeps_the_mark() -> None:
    @exclude
    def view() -> None: ...

    @functools.wraps(view)
    def decorated() -> None: ...

    assert is_excluded(decorated)
    assert is_excluded(exclude(functools.partial(print)))


def test_a_view_that_a_framework_made_of_a_marked_class_is_excluded() -> None:
    @exclude
    class View: ...

    class Other: ...

    for attribute in ("view_class", "cls"):

        def view() -> None: ...

        setattr(view, attribute, View)
        assert is_excluded(view)
        setattr(view, attribute, Other)
        assert not is_excluded(view)


def test_what_is_no_view_is_not_excluded() -> None:
    things: list[Any] = [None, 7, "x", object()]
    assert not any(map(is_excluded, things))
