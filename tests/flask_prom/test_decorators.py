"""Decorated Flask views: labels by request and response, and no effect on the view."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, g, jsonify, redirect, request, stream_with_context
from flask.views import MethodView
from prometheus_client import CollectorRegistry
from werkzeug.datastructures import Headers
from werkzeug.exceptions import NotFound

import web_prom as prom
from tests.flask_prom.conftest import MakeApp, Metrics
from tests.web_prom.support import python
from web_prom.decorators.functions import Decorator


@pytest.fixture
def count(registry: CollectorRegistry) -> Decorator:
    """Return a decorator with labels of each kind that prometheus_flask_exporter has."""
    labels = {
        "item": lambda: (request.view_args or {}).get("item", ""),
        "status": lambda response: response.status_code,
        "method": lambda request: request.method,
        "shop": "north",
    }
    return prom.count("views_total", "Views.", labels=labels, registry=registry)


def counted(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return the counted views."""
    return {
        key: value
        for key, value in metrics.by_labels("views_total", "item", "status", "method").items()
        if value
    }


def untyped() -> Response:
    """Return a response without a Content-Type."""
    response = Response(b"a")
    del response.headers["Content-Type"]
    return response


RESULTS: dict[str, tuple[Any, str]] = {
    "text": ("hello", "200"),
    "bytes": (b"hello", "200"),
    "dict": ({"a": 1}, "200"),
    "list": ([1], "200"),
    "status": (("hello", 201), "201"),
    "status text": (("hello", "202 Taken"), "202"),
    "headers": (("hello", {"X-A": "b"}), "200"),
    "status and headers": (("hello", 203, [("X-A", "b")]), "203"),
    "response": (lambda: Response(status=204), "204"),
    "response and status": (lambda: (Response("a"), 206), "206"),
    "response in a tuple": (lambda: (Response("a", status=207), {"X-A": "b"}), "207"),
    "generator": (lambda: (part for part in "abc"), "200"),
    "redirect": (lambda: redirect("/"), "302"),
    "json": (lambda: jsonify(1), "200"),
    "exception": (lambda: NotFound(), "404"),  # noqa: PLW0108 - the values are functions
    "status and no headers": (("hello", 203, None), "203"),
    "headers and no status": (("hello", None, {"X-A": "b"}), "200"),
    "status as bytes": ((b"hello", b"203 Taken"), ""),
    "status and headers of a response": (lambda: (Response("a", 201), 203, {"X-A": "b"}), "203"),
    "nothing": (None, ""),
    "nothing and a status": ((None, 204), "204"),
    "another object and a status": ((7, 201, {"X-A": "b"}), "201"),
    "nothing and headers": ((None, {"X-A": "b"}), ""),
    "headers that can be read once": (lambda: ("a", 203, (pair for pair in [("X-A", "b")])), ""),
    "two headers of one name": (("a", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]), "200"),
    "response without a type and a status": (lambda: (untyped(), 206), "206"),
    "another object": (7, ""),
    "too long a tuple": (("a", 200, {}, "b"), ""),
    "WSGI application": (lambda: lambda environ, start: start("418 x", []) or [b"tea"], ""),
}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("kind", RESULTS)
def test_fault_35_decorated_view_answers_as_before(
    kind: str, is_async: bool, make_app: MakeApp, metrics: Metrics, count: Decorator
) -> None:
    """Asynchronous views included."""
    result, status = RESULTS[kind]

    def view(item: str) -> Any:
        return result() if callable(result) else result

    async def async_view(item: str) -> Any:
        return view(item)

    app = make_app()
    app.add_url_rule("/plain/<item>", "plain", async_view if is_async else view)
    app.add_url_rule("/<item>", "decorated", count(async_view) if is_async else count(view))
    plain, decorated = (app.test_client().get(path) for path in ("/plain/a", "/a"))
    assert (decorated.status, decorated.data, decorated.headers) == (plain.status, plain.data, plain.headers)
    assert counted(metrics) == {("a", status, "GET"): 1}
    assert metrics.errors == {}


def test_response_of_an_exception_has_the_status_of_flask(
    make_app: MakeApp, metrics: Metrics, count: Decorator
) -> None:
    app = make_app()

    @app.route("/<item>")
    @count
    def view(item: str) -> str:
        if item == "fail":
            raise ValueError
        if item == "response":
            abort(Response(status=409))
        abort(404)

    for item, status in (("fail", 500), ("response", 409), ("missing", 404)):
        assert app.test_client().get(f"/{item}").status_code == status
    expected = {("fail", "500", "GET"): 1, ("response", "409", "GET"): 1, ("missing", "404", "GET"): 1}
    assert counted(metrics) == expected
    assert metrics.errors == {}


HEADERS: dict[str, Any] = {
    "text": ("hello", {"X-A": "b"}),
    "list": ("hello", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-A", "b")]),
    "type of text": (b"a", 200, {"Content-Type": "image/png"}),
    "list with a response": (Response("a"), [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]),
    "headers": ("a", 200, Headers([("X-A", "a"), ("X-A", "b")])),
    "response": (Response("a", headers={"X-A": "a", "X-C": "c"}), {"X-A": "b"}),
    "response without a type": (untyped(), 201),
    "dict": ({"a": 1}, 201),
    "dict and headers": ([1], {"Set-Cookie": "a=1"}),
    "problem": ({"a": 1}, 400, {"Content-Type": "application/problem+json"}),
}


@pytest.mark.parametrize("result", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("mimetype", ["application/json", "application/vnd.api+json"])
def test_response_has_the_headers_of_flask(
    result: Any, mimetype: str, make_app: MakeApp, registry: CollectorRegistry
) -> None:
    """Those of a response that a tuple has in it, those of the tuple, and the type of the body."""
    seen: list[Any] = []
    app = make_app()
    app.json.mimetype = mimetype  # type: ignore[attr-defined]

    def note(response: Response) -> str:
        seen.extend((name, value) for name, value in response.headers if name != "Content-Length")
        return ""

    @app.route("/")
    @prom.count("views_total", "Views.", labels={"note": note}, registry=registry)
    def view() -> Any:
        return copy.deepcopy(result)

    sent = [(name, value) for name, value in app.test_client().get("/").headers if name != "Content-Length"]
    assert sorted(seen) == sorted(sent)


def test_response_in_a_tuple_is_not_changed(make_app: MakeApp, count: Decorator) -> None:
    """An outer decorator can use the response without the headers of the tuple."""
    app = make_app()
    inner = Response("a")
    view = count(lambda item: (inner, 200, {"X-Secret": "1"}))
    app.add_url_rule("/<item>", "view", lambda item: view(item)[0])  # type: ignore[no-untyped-call]
    assert "X-Secret" not in app.test_client().get("/a").headers
    assert "X-Secret" not in inner.headers


class RateLimited(Exception):
    """An exception with a status code, as clients of APIs have it."""

    status_code = 429


class Exhausted(RateLimited):
    """A further one."""


@pytest.mark.parametrize("handled", [None, RateLimited, Exhausted, Exception])
@pytest.mark.parametrize("blueprint", [False, True])
def test_status_of_an_exception_of_another_library_is_that_of_flask(
    handled: type[Exception] | None,
    blueprint: bool,
    make_app: MakeApp,
    metrics: Metrics,
    count: Decorator,
) -> None:
    """A registered error handler is expected to use the status code of the exception."""
    app = make_app()
    group = Blueprint("group", "group")

    @group.route("/<item>")
    @count
    def view(item: str) -> str:
        raise Exhausted

    def answer(error: Any) -> Any:
        return "sorry", 500 if handled is Exception else error.status_code

    if handled is not None:
        (group if blueprint else app).register_error_handler(handled, answer)
    app.register_blueprint(group)
    status = app.test_client().get("/a").status_code
    assert status == (429 if handled in {RateLimited, Exhausted} else 500)
    assert counted(metrics) == {("a", str(status), "GET"): 1}


def test_view_of_an_application_without_the_extension_has_the_labels(
    metrics: Metrics, count: Decorator
) -> None:
    app = Flask(__name__)
    app.add_url_rule("/<item>", view_func=count(lambda item: (item, 201)), endpoint="item")
    assert app.test_client().get("/a").status_code == 201
    assert counted(metrics) == {("a", "201", "GET"): 1}


def test_class_based_views_are_measured(make_app: MakeApp, metrics: Metrics, count: Decorator) -> None:
    app = make_app()

    class Items(MethodView):
        @count
        def get(self, item: str) -> str:
            return item

        def post(self, item: str) -> tuple[str, int]:
            return item, 201

    class Counted(Items):
        decorators = [count]  # noqa: RUF012 - Flask's name

    app.add_url_rule("/<item>", view_func=Items.as_view("items"))
    app.add_url_rule("/all/<item>", view_func=Counted.as_view("counted"))
    client = app.test_client()
    assert [client.get("/a").status_code, client.post("/a").status_code] == [200, 201]
    assert client.post("/all/b").status_code == 201
    assert counted(metrics) == {("a", "200", "GET"): 1, ("b", "201", "POST"): 1}


def test_streamed_body_is_timed_by_its_generator(
    make_app: MakeApp, metrics: Metrics, registry: CollectorRegistry
) -> None:
    app = make_app()

    @prom.track_in_progress("rows_open", "Rows.", registry=registry)
    @prom.count("rows_total", "Rows.", labels={"who": lambda: g.who}, registry=registry)
    def rows() -> Iterator[str]:
        yield "a"
        assert metrics("rows_open") == 1
        yield "b"

    @app.route("/")
    @prom.time("view_seconds", "View.", registry=registry)
    def view() -> Response:
        g.who = "ann"
        return Response(stream_with_context(rows()))

    assert app.test_client().get("/").data == b"ab"
    assert metrics("rows_total", who="ann") == 1
    assert metrics("view_seconds_count") == 1
    assert metrics("rows_open") == 0


def test_function_outside_of_a_request_has_empty_labels(metrics: Metrics, count: Decorator) -> None:
    """The function without a parameter raises, which is counted. The others are not called."""
    assert count(lambda: "a")() == "a"
    assert counted(metrics) == {("", "", ""): 1}
    assert metrics.errors == {("label item",): 1}


def test_click_commands_are_measured(registry: CollectorRegistry, metrics: Metrics) -> None:
    import click

    app = Flask("shop")
    labels = {"name": lambda name: name, "exception": prom.exception_type}

    @app.cli.command("greet")
    @click.argument("name")
    @prom.count("greetings_total", "Greetings.", labels=labels, registry=registry)
    def greet(name: str) -> None:
        """Greet somebody."""
        if name == "bad":
            raise click.ClickException("bad name")
        click.echo(f"hello {name}")

    runner = app.test_cli_runner()
    assert "Greet somebody." in runner.invoke(args=["greet", "--help"]).output
    assert runner.invoke(args=["greet", "ann"]).output == "hello ann\n"
    assert runner.invoke(args=["greet", "bad"]).exit_code == 1
    found = metrics.by_labels("greetings_total", "name", "exception")
    assert found == {("ann", ""): 1, ("bad", "ClickException"): 1}
    with pytest.raises(TypeError, match="put the decorator directly above the function"):
        prom.count("greetings_total", "Greetings.", labels=labels, registry=registry)(greet)


@pytest.mark.slow
def test_adapter_alone_imports_no_decorator() -> None:
    code = """
        import sys, flask_prom
        print([name for name in sys.modules if name.startswith("web_prom.decorators.")])
    """
    assert python(code) == "['web_prom.decorators.framework_requests']\n"
