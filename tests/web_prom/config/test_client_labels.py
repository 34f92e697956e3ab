"""Labels from outside: their values for requests of each kind, and wrong arguments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import web_prom as prom
from web_prom.config.client_labels import ClientLabel
from web_prom.config.settings import Config

ENVIRON = {"REQUEST_METHOD": "GET", "HTTP_X_VERSION": "2", "CONTENT_TYPE": "text/a"}
SCOPE = {"type": "http", "headers": [(b"X-Version", b"2"), (b"content-type", b"text/a")]}
REQUESTS = {
    "WSGI": ENVIRON,
    "ASGI": SCOPE,
    "Django": SimpleNamespace(META=ENVIRON, environ=None),
    "Django under ASGI": SimpleNamespace(META=ENVIRON, scope=SCOPE),
    "Flask": SimpleNamespace(environ=ENVIRON),
    "Starlette": SimpleNamespace(scope=SCOPE),
}


async def async_label(_request: Any, _response: Any) -> str:
    """Return a value."""
    return "x"


class AsyncLabel:
    """An object that is called asynchronously."""

    async def __call__(self, _request: Any, _response: Any) -> str:
        """Return a value."""
        return "x"


@pytest.mark.parametrize("kind", REQUESTS)
def test_header_reads_requests_of_each_kind(kind: str) -> None:
    request = REQUESTS[kind]
    assert prom.header("x-Version")(request, None) == "2"
    assert prom.header("Content-Type")(request, None) == "text/a"
    assert prom.header("X-Missing")(request, None) == ""
    assert prom.header("X-Missing", allowed=["a"])(request, None) == ""
    assert prom.header("X-Version", allowed=["1"])(request, None) == "_other"


def test_header_that_is_sent_twice_is_joined() -> None:
    scope = {"type": "http", "headers": [(b"x-version", b"2"), (b"a", b"b"), (b"X-VERSION", b"\xe4")]}
    assert prom.header("X-Version")(scope, None) == "2,ä"


def test_limited_function_may_return_any_object() -> None:
    values = [None, 7, "a\n\x00", "x" * 200, OSError("a")]
    label = prom.limited(lambda request, response: values.pop(0))
    assert [label(None, None) for _ in range(5)] == ["", "7", "a??", "x" * 128, "a"]


def test_setting_accepts_labels_and_texts() -> None:
    label = prom.header("X-Tenant", limit=7)
    config = Config.load({"extra_labels": {"tenant": label, "version": "header:X-Version:1|2"}})
    assert config.extra_labels["tenant"] is label
    version = config.extra_labels["version"]
    assert isinstance(version, ClientLabel)
    assert version.allowed == frozenset({"1", "2"})
    config = Config.load(environ={"PROM_EXTRA_LABELS": "tenant=header:X-Tenant, v=header:X-Version:a:b|2"})
    assert [
        (name, label.allowed, label.limit)
        for name, label in config.extra_labels.items()
        if isinstance(label, ClientLabel)
    ] == [("tenant", None, 50), ("v", {"a:b", "2"}, 50)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("header:", "is 'a=header:': label 'a': the name of a header is ''; allowed: a name"),
        ("header:X Tenant", "'X Tenant'; allowed: a name"),
        ("header:Cookie", "'Cookie' has secrets; allowed: headers"),
        ("header:X-Version:", "allowed has ''; allowed: texts"),
        ("header:X-Version:1||2", "allowed has ''; allowed: texts"),
        ("heading:X-Version", "allowed: a callable .*or a header, for example 'header:X-API-Version:1|2|3'"),
    ],
)
def test_wrong_text_is_an_error_at_start(text: str, message: str) -> None:
    with pytest.raises(prom.ConfigError, match=message.replace("|", r"\|").replace(".*or", ".*or")):
        Config.load(environ={"PROM_EXTRA_LABELS": f"a={text}"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit is 0; allowed: a whole number from 1 to 10000"),
        ({"limit": 10_001}, "limit is 10001; allowed"),
        ({"limit": True}, "limit is True; allowed"),
        ({"limit": "5"}, "limit is '5'; allowed"),
        ({"limit": 5, "allowed": ("a",)}, "allowed: one of the two"),
        ({"allowed": "12"}, "allowed is '12'; allowed: a sequence of texts"),
        ({"allowed": 1}, "allowed is 1; allowed: a sequence of texts"),
        ({"allowed": (1,)}, "allowed has 1; allowed: texts"),
        ({"allowed": ("a\n",)}, "without control characters"),
        ({"allowed": ("x" * 129,)}, "of 1 to 128 characters"),
        ({"allowed": ()}, "allowed is empty; allowed: at least one text"),
        ({"function": async_label}, "a callable that is not async"),
        ({"function": AsyncLabel()}, "a callable that is not async"),
        ({"function": "x"}, "a callable that is not async"),
        ({"function": lambda: ""}, r"is <function .*allowed: a callable .* of \(request, response\)"),
        ({"function": prom.header}, r"allowed: a callable .* of \(request, response\)"),
    ],
)
def test_wrong_argument_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(prom.ConfigError, match=message):
        prom.limited(**{"function": lambda *_: "", **arguments})


@pytest.mark.parametrize("name", ["", "a b", None, 7, "a\n", "Authorization", "COOKIE"])
def test_wrong_header_is_an_error(name: Any) -> None:
    with pytest.raises(prom.ConfigError, match="allowed: "):
        prom.header(name)


@pytest.mark.parametrize("function", [lambda: "x", lambda request: "x", lambda request, response, other: "x"])
def test_function_with_other_parameters_is_an_error_at_start(function: Any) -> None:
    """Each request would have an empty label."""
    message = r"allowed: a callable that is .*, of \(request, response\).*\(label 'tenant'\)"
    with pytest.raises(prom.ConfigError, match=message):
        Config.load({"extra_labels": {"shop": lambda request, response: "x", "tenant": function}})
    with pytest.raises(prom.ConfigError, match=r"option 'allow_scrape' is .* of \(environ\)"):
        Config.load({"allow_scrape": lambda: True})


def test_callables_whose_parameters_are_not_known_or_optional_are_allowed() -> None:
    functions: list[Any] = [max, lambda *call: "x", lambda request, response, more=1: "x"]
    for function in functions:
        config = Config.load({"extra_labels": {"a": function}, "allow_scrape": lambda environ, more=1: True})
        assert config.extra_labels["a"] is function
