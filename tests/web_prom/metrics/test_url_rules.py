"""The rule of a request in a URL map of Werkzeug."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.routing import BaseConverter, Map, Rule

from web_prom.metrics.url_rules import find_rule


class Broken(BaseConverter):
    """A converter with an error."""

    def to_python(self, value: str) -> Any:
        raise RuntimeError


def url_map(**options: Any) -> Map:
    """Return a map with redirects of each kind."""
    rules = [
        Rule("/users/", endpoint="users", methods=["GET"]),
        Rule("/über/", endpoint="umlaut"),
        Rule("/a b/", endpoint="blank"),
        Rule("/50%/", endpoint="percent"),
        Rule("/a;b?c#d/", endpoint="reserved"),
        Rule("/<name>/page/", endpoint="page"),
        Rule("/pages/", endpoint="pages", defaults={"number": 1}, methods=["GET"]),
        Rule("/pages/<int:number>/", endpoint="pages", methods=["GET"]),
        Rule("/write", endpoint="write", methods=["POST", "PUT"]),
        Rule("/old", endpoint="users", alias=True, methods=["GET"]),
        Rule("/away/<x>", endpoint="away", redirect_to="https://other.org/users/"),
        Rule("/near/<x>", endpoint="near", redirect_to="/users/"),
        Rule("/again", endpoint="again", redirect_to="/again"),
        Rule("/invalid", endpoint="invalid", redirect_to="//other.org/users/"),
        Rule("/broken/<broken:x>", endpoint="broken"),
    ]
    return Map(rules, converters={"broken": Broken}, **options)


@pytest.mark.parametrize("root", ["/", "/app", "/ä/b%20c"])
@pytest.mark.parametrize("host", ["shop.example", "shop.example:8000"])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "rule"),
    [
        ("GET", "/users/", "/users/"),
        ("GET", "/users", "/users/"),
        ("GET", "//users", "/users/"),
        ("POST", "/users/", "/users/"),
        ("GET", "/über", "/über/"),
        ("GET", "/a b", "/a b/"),
        ("GET", "/50%", "/50%/"),
        ("GET", "/a;b?c#d", "/a;b?c#d/"),
        ("GET", "/ä%41+&=é/page", "/<name>/page/"),
        ("GET", "/pages/1/", "/pages/"),
        ("GET", "/pages/1", "/pages/"),
        ("DELETE", "/pages/1/", "/pages/"),
        ("GET", "/write", "/write"),
        ("GET", "/old", "/users/"),
        ("GET", "/near/1", "/users/"),
        ("GET", "/away/1", None),
        ("GET", "/again", None),
        ("GET", "/invalid", None),
        ("GET", "/broken/1", None),
        ("GET", "/missing", None),
    ],
)
def test_find_rule_follows_redirects_and_allowed_methods(  # noqa: PLR0917
    root: str, host: str, known: bool, method: str, path: str, rule: str | None
) -> None:
    adapter = url_map().bind(host, root, path_info=path, default_method=method)
    error: Exception | None = None
    if known:
        try:
            adapter.match()
        except Exception as raised:
            error = raised
    assert getattr(find_rule(adapter, error), "rule", None) == rule


@pytest.mark.parametrize("options", [{"host_matching": True}, {"default_subdomain": "www"}])
def test_find_rule_compares_hosts_with_subdomains_and_host_matching(options: dict[str, Any]) -> None:
    urls = Map(
        [
            Rule("/users/", endpoint="users", host="shop.example"),
            Rule("/away", endpoint="away", redirect_to="http://other.org/users/", host="shop.example"),
        ],
        **options,
    )
    found = [find_rule(urls.bind("shop.example", path_info=path)) for path in ("/users", "/away")]
    assert [getattr(each, "rule", None) for each in found] == ["/users/", None]
