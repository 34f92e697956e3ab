"""Route templates: their notation, excluded routes and excluded views."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from web_prom import exclude
from web_prom.metrics.routes import absolute_route, is_excluded, route_is_excluded


def test_exclude_returns_the_view_itself() -> None:
    def view() -> str:
        return "x"

    assert not is_excluded(view)
    assert exclude(view) is view
    assert is_excluded(view)
    assert view() == "x"


def test_exclude_marks_an_async_view() -> None:
    @exclude
    async def view() -> None: ...

    assert is_excluded(view)


def test_is_excluded_is_kept_by_functools_wraps() -> None:
    @exclude
    def view() -> None: ...

    @functools.wraps(view)
    def decorated() -> None: ...

    assert is_excluded(decorated)
    assert is_excluded(exclude(functools.partial(print)))


def test_is_excluded_for_a_view_made_from_an_excluded_class() -> None:
    @exclude
    class View: ...

    class Other: ...

    for attribute in ("view_class", "cls"):

        def view() -> None: ...

        setattr(view, attribute, View)
        assert is_excluded(view)
        setattr(view, attribute, Other)
        assert not is_excluded(view)


def test_is_excluded_is_false_for_other_objects() -> None:
    things: list[Any] = [None, 7, "x", object()]
    assert not any(map(is_excluded, things))


@pytest.mark.parametrize(
    ("route", "excluded"),
    [
        ("/foo", True),
        ("/foobar", False),
        ("/foo/", False),
        ("/foo/x", False),
        ("/admin", False),
        ("/admin/", True),
        ("/admin/users/<int:id>", True),
        ("/administration", False),
        ("/adminx/", False),
        ("", False),
    ],
)
def test_fault_19_a_prefix_excludes_only_what_lies_below_it(route: str, excluded: bool) -> None:
    assert route_is_excluded(route, ("/foo", "/admin/*")) is excluded


def test_route_is_excluded_without_patterns_is_false() -> None:
    assert not route_is_excluded("/", ())


@pytest.mark.parametrize(
    ("template", "absolute"), [("", "/"), ("/", "/"), ("users/<id>", "/users/<id>"), ("/x/", "/x/")]
)
def test_absolute_route_begins_with_one_slash(template: str, absolute: str) -> None:
    assert absolute_route(template) == absolute
