"""Route templates: their notation, excluded routes and excluded views."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from web_prom import exclude
from web_prom.metrics.routes import absolute_route, excluded_methods, is_excluded, route_is_excluded


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


def test_is_excluded_for_a_method_of_an_object_of_an_excluded_class() -> None:
    @exclude
    class Views:
        def view(self) -> None: ...

    class Others:
        def view(self) -> None: ...

    assert is_excluded(Views().view)
    assert not is_excluded(Others().view)


def test_is_excluded_is_false_for_other_objects() -> None:
    things: list[Any] = [None, 7, "x", object()]
    assert not any(map(is_excluded, things))


METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PURGE")


class Base:
    """A class-based view."""

    @exclude
    def get(self) -> None: ...

    def post(self) -> None: ...


class WithHead(Base):
    """A view with its own HEAD."""

    def head(self) -> None: ...


class Other(Base):
    """A view that replaces the method."""

    def get(self) -> None: ...


@exclude
class Whole:
    """An excluded view."""


class Inheriting(Whole):
    """A subclass of it."""


class Dispatching:
    """A view that is excluded by the method that serves all requests."""

    @exclude
    def dispatch(self) -> None: ...


class ViewSet:
    """A view set of Django REST framework."""

    @exclude
    def list(self) -> None: ...

    def create(self) -> None: ...


@pytest.mark.parametrize("attribute", ["view_class", "cls", None])
@pytest.mark.parametrize(
    ("view_class", "methods"),
    [
        (Base, ("GET", "HEAD")),
        (WithHead, ("GET",)),
        (Other, ()),
        (Whole, METHODS),
        (Inheriting, METHODS),
        (Dispatching, METHODS),
        (ViewSet, ()),
    ],
)
def test_excluded_methods_are_those_of_the_class(
    attribute: str | None, view_class: type, methods: tuple[str, ...]
) -> None:
    """Starlette has the class itself as the view. HEAD is served by ``get`` if there is no ``head``."""

    def view() -> None: ...

    if attribute is not None:
        setattr(view, attribute, view_class)
    excluded = excluded_methods(view_class if attribute is None else view)
    assert tuple(method for method in METHODS if method in excluded) == methods
    assert bool(excluded) == bool(methods)


def test_excluded_methods_of_a_view_set_are_those_of_its_actions() -> None:
    view: Any = functools.partial(print)
    view.cls, view.actions = ViewSet, {"get": "list", "post": "create"}
    assert excluded_methods(view) == {"GET", "HEAD"}
    view.actions = {"get": "create", "post": "list"}
    assert excluded_methods(view) == {"POST"}


def test_exclude_marks_bound_and_static_methods() -> None:
    class Views:
        def bound(self) -> None: ...

        @exclude
        @staticmethod
        def static() -> None: ...

        @exclude
        @classmethod
        def of_class(cls) -> None: ...

    views = Views()
    assert exclude(views.bound) == views.bound
    assert all(map(is_excluded, (views.bound, views.static, Views.static, Views.of_class)))


@pytest.mark.parametrize("thing", [len, None, "view", object()])
def test_exclude_refuses_what_cannot_be_marked(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be excluded; allowed: a function, a method"):
        exclude(thing)


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
