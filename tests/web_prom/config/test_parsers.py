"""Valid and invalid values of all settings."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.web_prom.config.support import load
from web_prom.config import FIELDS, PREFIX, Config
from web_prom.config.addresses import Address
from web_prom.config.credentials import Secret
from web_prom.errors import ConfigError


def label(_request: Any, _response: Any) -> str:
    """Return the value of an extra label."""
    return "x"


async def async_label(_request: Any, _response: Any) -> str:
    """Return the value of an extra label, which must not be async."""
    return "x"


async def async_generator(_request: Any, _response: Any = None) -> AsyncIterator[str]:
    """Yield, which must not be a label or a check."""
    yield "x"


def generator(_request: Any, _response: Any = None) -> Iterator[str]:
    """Yield, which must not be a label or a check."""
    yield "x"


class AsyncLabel:
    """An object with an async method for a label and one for a check."""

    async def __call__(self, _request: Any, _response: Any = None) -> str:
        """Return a value, which must not be async."""
        return "x"

    async def method(self, _request: Any, _response: Any = None) -> str:
        """Return a value, which must not be async."""
        return "x"


class Labels(dict[str, str]):
    """A callable that is false while it is empty."""

    def __call__(self, _request: Any, _response: Any = None) -> str:
        """Return the value of an extra label or of a check."""
        return "x"


NO_LABELS = Labels()
# Each can be called as a label and as a check, and gives no result at once.
LATER: list[Any] = [
    AsyncLabel(), AsyncLabel().method, async_generator, generator, functools.partial(AsyncLabel()),
    functools.partial(functools.partial(generator), _response=None),
]  # fmt: skip

HERE = "logging"  # a module that is always there, for dotted paths


# Valid values -----------------------------------------------------------------------------------------

VALID: list[tuple[str, Any, Any]] = [
    ("enabled", False, False),
    ("enabled", "no", False),
    ("enabled", " TRUE ", True),
    ("path", "/internal/metrics", "/internal/metrics"),
    ("path", "", ""),
    ("naming", "prometheus", "prometheus"),
    ("naming", "opentelemetry", "opentelemetry"),
    ("namespace", "shop", "shop"),
    ("namespace", "", ""),
    ("constant_labels", {"site": "north"}, {"site": "north"}),
    ("constant_labels", {"number": 7}, {"number": "7"}),
    ("constant_labels", "site=north, zone = a=b ,", {"site": "north", "zone": "a=b"}),
    ("constant_labels", {"_site": 1}, {"_site": "1"}),
    ("extra_labels", {"tenant": label}, {"tenant": label}),
    ("extra_labels", {"tenant": NO_LABELS}, {"tenant": NO_LABELS}),
    ("extra_labels", f"level={HERE}.addLevelName", {"level": logging.addLevelName}),
    ("extra_labels", f"level={HERE}:addLevelName", {"level": logging.addLevelName}),
    ("duration_buckets", [1, 2, 3], (1.0, 2.0, 3.0)),
    ("duration_buckets", (1, math.inf), (1.0,)),
    ("duration_buckets", "0.1, .5,1e0,+Inf", (0.1, 0.5, 1.0)),
    ("duration_buckets", ["0.1", 1], (0.1, 1.0)),
    ("duration_buckets", (0, 1), (0.0, 1.0)),
    ("duration_buckets", range(1, 4), (1.0, 2.0, 3.0)),
    ("duration_status", "on", True),
    ("status_classes", "1", True),
    ("extra_methods", "PROPFIND, LOCK", ("PROPFIND", "LOCK")),
    ("extra_methods", ["M-SEARCH"], ("M-SEARCH",)),
    ("extra_methods", [], ()),
    ("exclude", "/health,/internal/*", ("/health", "/internal/*")),
    ("exclude", ["/users/<int:id>"], ("/users/<int:id>",)),
    ("max_label_sets", 1, 1),
    ("max_label_sets", "500", 500),
    ("size_buckets", "1e3,1e6", (1e3, 1e6)),
    ("queue_time", " Auto ", "auto"),
    ("queue_time", "auto", "auto"),
    ("queue_time", "yes", True),
    ("queue_time", False, False),
    ("worker_capacity", "8", 8),
    ("worker_capacity", None, None),
    ("runtime", "on", True),
    ("database", "on", True),
    ("cache", "on", True),
    ("http_client", "true", True),
    ("live", "yes", True),
    ("live_path", "/internal/live/", "/internal/live"),
    ("zero_errors", "0", False),
    ("bearer_token", "s3cret", Secret("s3cret")),
    ("bearer_token", None, None),
    ("basic_auth", "user:pass:with:colons", Secret("user:pass:with:colons")),
    ("basic_auth", "üser:pässword", Secret("üser:pässword")),
    ("allowed_networks", "10.0.0.0/8, fd00::/8", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
    ("allowed_networks", ["127.0.0.1"], (ip_network("127.0.0.1/32"),)),
    ("allowed_networks", [ip_network("10.0.0.0/8")], (ip_network("10.0.0.0/8"),)),
    ("allowed_networks", "::ffff:10.0.0.0/104", (ip_network("10.0.0.0/8"),)),
    ("allowed_networks", "::ffff:10.1.2.3", (ip_network("10.1.2.3/32"),)),
    ("trusted_proxies", "::1", (ip_network("::1/128"),)),
    ("trusted_proxies", "unix", ("unix",)),
    ("trusted_proxies", ["unix", "10.0.0.1"], (ip_network("10.0.0.1/32"), "unix")),
    ("allow_scrape", f"{HERE}.getLevelName", logging.getLevelName),
    ("allow_scrape", NO_LABELS, NO_LABELS),
    ("allow_scrape", None, None),
    ("collector_timeout", 2.5, 2.5),
    ("collector_timeout", "0", 0.0),
    ("models", "shop.Order, auth.User", ("shop.Order", "auth.User")),
    ("models", ["shop.order"], ("shop.order",)),
    ("models", [], ()),
    ("migrations", "on", True),
    ("templates", "on", True),
    ("install_middleware", "off", False),
    ("instrument", "1", True),
    ("bind", "127.0.0.1:9464", Address("127.0.0.1", 9464)),
    ("bind", None, None),
    ("certfile", "/etc/ssl/shop.pem", Path("/etc/ssl/shop.pem")),
    ("certfile", None, None),
]


@pytest.mark.parametrize(("name", "value", "expected"), VALID)
def test_load_accepts_a_valid_value(name: str, value: Any, expected: Any) -> None:
    assert getattr(load(**{name: value}), name) == expected
    if isinstance(value, str):
        assert getattr(Config.load(environ={PREFIX + name.upper(): value}), name) == expected


def test_tables_have_valid_and_invalid_values_of_all_settings() -> None:
    files = {"bearer_token_file", "basic_auth_file", "keyfile", "client_cafile"}
    booleans = {"request_size", "response_size", "first_byte"}
    assert {name for name, *_ in VALID} | files | booleans == set(FIELDS)
    assert {name for name, *_ in INVALID} | files == set(FIELDS)


@pytest.mark.parametrize("word", ["1", "true", "yes", "on", "True", "YES"])
def test_parse_boolean_accepts_words_for_true(word: str) -> None:
    assert Config.load(environ={"PROM_REQUEST_SIZE": word}).request_size


@pytest.mark.parametrize("word", ["0", "false", "no", "off", "False"])
def test_parse_boolean_accepts_words_for_false(word: str) -> None:
    assert not Config.load(environ={"PROM_ENABLED": word}).enabled


# Invalid values ------------------------------------------------------------------------------------------

INVALID_BUCKETS: list[Any] = [
    [], (), "", ",", [2, 1], [1, 1], [1, 2, 2], ["a"], "0.1,x", [None], [math.nan], [1, math.nan],
    [math.inf], [1, math.inf, math.inf], [-math.inf, 1], [-1, 1], 5, None, {1: 2}, b"12", [10**400],
    [[1]],
]  # fmt: skip
INVALID_BOOLEANS: list[Any] = ["maybe", "2", 1, 0, None, [], "truefalse"]
INVALID_LABELS: list[Any] = [
    "le", "__x", "__name__", "method", "route", "status", "exception", "quantile", "pid", "worker",
    "1st", "a-b", "a b", "", "ä", "a\n", 7, None,
]  # fmt: skip
INVALID_NETWORKS: list[Any] = [
    "10.0.0.1/8", "10.0.0.0/33", "localhost", "fe80::/200", "", " ,", [""], [None], ["::1", "x"],
]  # fmt: skip
INVALID_PATHS = ["x", "", "no.such.module.f", "os.no_such", "os.path", "os.", ".os.getpid", "os getpid"]
INVALID: list[tuple[str, Any]] = [
    *(
        (name, value)
        for name, item in FIELDS.items()
        if item.default is True or item.default is False
        for value in INVALID_BOOLEANS
    ),
    *(("live_path", value) for value in ("", "/", "live", "/a b", "/ü", "/a%20b", "//a", None, 7)),
    *(("path", value) for value in ("metrics", "/", "/a b", "/a?b", "/a#b", None, 7, b"/m", "/m\n", " /m")),
    *(("naming", value) for value in ("", "OpenTelemetry", "otel", None, True, 7)),
    *(("namespace", value) for value in ("1st", "a-b", "ä", " ", None, 7, "a\n", "a:b")),
    *(("constant_labels", {value: "x"}) for value in INVALID_LABELS),
    *(("constant_labels", value) for value in ("site", "site=a,zone", "=a", None, 7, ["site"])),
    *(("constant_labels", value) for value in ({"a": "\udc80"}, "site=\udcff", {"a": "b\t"})),
    *(("extra_labels", {value: label}) for value in INVALID_LABELS),
    *(("extra_labels", {"a": value}) for value in (7, None, *INVALID_PATHS, async_label, *LATER)),
    ("extra_labels", "a=no.such.module.f"),
    *(("duration_buckets", value) for value in INVALID_BUCKETS),
    *(("size_buckets", value) for value in INVALID_BUCKETS),
    *(("extra_methods", value) for value in (["A B"], ["Ä"], [""], [7], [None], ["GET\n"])),
    *(("extra_methods", value) for value in ("A B", None, 7, {"A": 1})),
    *(("exclude", value) for value in (["health"], "health", [""], [7], None, 7, {"/a": 1}, ["/ok", "bad"])),
    *(("models", value) for value in ("Order", ["shop"], ["shop.Order.x"], ["shop."], [7], None, {"a.B": 1})),
    *(
        ("max_label_sets", value)
        for value in (0, -1, "0", "x", "", None, 1.5, True, math.inf, math.nan, "1.5", [1], "1e3", "inf")
    ),
    *(("queue_time", value) for value in ("maybe", 1, 0, None, ["auto"], "automatic", b"auto")),
    *(("worker_capacity", value) for value in (0, -1, "0", "x", "", 1.5, True, math.inf, [1])),
    *(("collector_timeout", value) for value in (-1, "", "5s", None, True, math.inf, math.nan, 3601, [5])),
    *(("bearer_token", value) for value in ("", "  ", "\n", 7, b"token", ["t"])),
    *(("basic_auth", value) for value in ("", "user", ":password", "user:", 7, b"u:p", ("u", "p"), "u:p\n")),
    *(
        (name, value)
        for name in ("allowed_networks", "trusted_proxies")
        for value in INVALID_NETWORKS
    ),
    *((name, value) for name in ("allowed_networks", "trusted_proxies") for value in (None, 7, b"10.0.0.1")),
    *(
        ("allow_scrape", value)
        for value in (7, *INVALID_PATHS, async_label, *LATER, b"os.getpid")
    ),
    *(("bind", value) for value in ("", "9464", "localhost", ":65536", "::1:80", "a b:1", "http://x:1", 80)),
    *((name, value) for name in ("certfile", "keyfile", "client_cafile") for value in ("", 7, b"x")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), INVALID)
def test_load_rejects_an_invalid_value_with_key_value_and_allowed_values(name: str, value: Any) -> None:
    key = PREFIX + name.upper()
    with pytest.raises(ConfigError) as raised:
        Config.load(settings={key: value})
    message = str(raised.value)
    assert message.startswith(f"{key} is ")
    assert "; allowed: " in message
    assert len(message.partition("; allowed: ")[2]) > 10
    if FIELDS[name].metadata["secret"]:
        assert "not shown" in message
    else:
        assert repr(value) in message


def test_config_error_names_the_source() -> None:
    with pytest.raises(ConfigError, match=r"^PROM_PATH in the environment is 'x'; allowed: a URL path"):
        Config.load(environ={"PROM_PATH": "x"})
    with pytest.raises(ConfigError, match=r"^option 'path' is 'x'; allowed: a URL path"):
        Config.load({"path": "x"})


def test_parse_constant_labels_error_names_control_characters() -> None:
    with pytest.raises(ConfigError, match=r"control characters other than a line feed .not that of 'site'.$"):
        load(constant_labels={"site": "north\t"})


@pytest.mark.parametrize(
    ("route", "warns"),
    [
        *(
            (route, True)
            for route in ("/health$", "/a/.*", r"/v\d+", "/(?P<id>x)/", "/users/[0-9]+", "/api*")
        ),
        *((route, True) for route in ("/*/x", "/a/**", "/health|/ready", "/v1/.+", "/<lang>*")),
        *(
            (route, False)
            for route in ("/", "/*", "/a.b/<int:id>/*", "/{path:path}/$count", "/C++/", "/(en)/")
        ),
        *((route, False) for route in (r'/<regex("\d*(?P<x>$)"):id>/', "/{file:.*}")),
    ],
)
def test_load_warns_of_a_route_that_looks_like_a_regular_expression(
    route: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Some routes do. So they are accepted."""
    assert load(exclude=[route]).exclude == (route,)
    assert [repr(route) in record.getMessage() for record in caplog.records] == [True] * warns
