"""The search for the applications that an application wraps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from web_prom.wrapped_apps import iter_wrapped_apps, read_static


class Layer:
    """A layer that keeps the application in a given attribute."""

    def __init__(self, app: Any, attribute: str = "app") -> None:
        setattr(self, attribute, app)

    def __call__(self) -> None:
        """Do nothing."""


class Slotted:
    """A layer without a ``__dict__``."""

    __slots__ = ("app",)

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self) -> None:
        """Do nothing."""


class Computed:
    """A layer whose attribute is a property."""

    def __init__(self, app: Any) -> None:
        self._inner = app

    @property
    def app(self) -> Any:
        """The application."""
        return self._inner

    def __call__(self) -> None:
        """Do nothing."""


def application() -> None:
    """Do nothing."""


def decorated() -> Any:
    """Return a decorator's result."""

    @functools.wraps(application)
    def call() -> None:
        application()

    return call


@pytest.mark.parametrize(
    "wrap",
    [
        Layer,
        Slotted,
        functools.partial(Layer, attribute="_app"),
        functools.partial(Layer, attribute="wsgi"),
        functools.partial(Layer, attribute="wsgi_application"),
        functools.partial(Layer, attribute="asgi_app"),
        lambda app: Layer(Slotted(Layer(app))),
    ],
)
def test_iter_wrapped_apps_finds_the_application_in_each_layer(wrap: Callable[[Any], Any]) -> None:
    outermost = wrap(application)
    found = list(iter_wrapped_apps(outermost))
    assert found[0] is outermost
    assert found[-1] is application


def test_iter_wrapped_apps_finds_decorated_functions_and_owners_of_methods() -> None:
    layer = Layer(application)
    assert application in iter_wrapped_apps(decorated())
    assert application in iter_wrapped_apps(layer.__call__)


def test_iter_wrapped_apps_yields_each_application_of_a_cycle_once() -> None:
    first = Layer(None)
    second = Layer(first)
    first.app = second  # type: ignore[attr-defined]
    assert list(iter_wrapped_apps(first)) == [first, second]


def test_iter_wrapped_apps_skips_values_that_are_not_callable() -> None:
    layer = Layer("shop")
    assert list(iter_wrapped_apps(layer)) == [layer]


def test_iter_wrapped_apps_includes_mounted_applications_on_request() -> None:
    def mounted(*_: Any) -> Any:
        return []

    dispatcher = DispatcherMiddleware(application, {"/shop": mounted})  # type: ignore[arg-type]
    assert mounted not in iter_wrapped_apps(dispatcher)
    assert mounted in iter_wrapped_apps(dispatcher, mounted=True)


def test_iter_wrapped_apps_calls_properties_only_with_another_reader() -> None:
    layer = Computed(application)
    assert application not in iter_wrapped_apps(layer)
    assert application in iter_wrapped_apps(layer, read=lambda app, name: getattr(app, name, None))


def test_iter_wrapped_apps_ends_after_a_hundred_applications() -> None:
    app: Any = application
    for _ in range(200):
        app = Layer(app)
    assert len(list(iter_wrapped_apps(app))) == 100


def test_read_static_returns_none_for_a_missing_attribute() -> None:
    assert read_static(Slotted(application), "app") is application
    assert read_static(Layer(application), "missing") is None
