"""The vocabulary of settings: where they come from, what is allowed, and what is said when it is not."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import logging
import math
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from web_prom.config import DEFAULT_DURATION_BUCKETS, DEFAULT_SIZE_BUCKETS, FIELDS, PREFIX, Config
from web_prom.config.addresses import Address
from web_prom.config.credentials import Secret, looks_like_path
from web_prom.errors import ConfigError, WebPromError


def label(_request: Any, _response: Any) -> str:
    """Serve as an extra label that a dotted path can name."""
    return "x"


async def async_label(_request: Any, _response: Any) -> str:
    """Serve as what cannot be an extra label."""
    return "x"


HERE = "logging"  # a module that is always there, for dotted paths


def load(**options: Any) -> Config:
    return Config.load(options)


def load_from(source: str, name: str, value: Any) -> Config:
    if source == "options":
        return Config.load({name: value})
    return Config.load(**{source: {PREFIX + name.upper(): value}})


# Sources ---------------------------------------------------------------------------------------------


def test_options_win_over_settings_and_settings_over_the_environment() -> None:
    environ = {"PROM_NAMESPACE": "e", "PROM_PATH": "/e", "PROM_MAX_LABEL_SETS": "7"}
    settings = {"PROM_NAMESPACE": "s", "PROM_PATH": "/s"}
    config = Config.load({"namespace": "o"}, settings=settings, environ=environ)
    assert (config.namespace, config.path, config.max_label_sets) == ("o", "/s", 7)


def test_no_source_gives_the_defaults() -> None:
    assert Config.load() == Config() == Config.load({}, settings={}, environ={})
    assert Config().duration_buckets == DEFAULT_DURATION_BUCKETS
    assert Config().size_buckets == DEFAULT_SIZE_BUCKETS


def test_the_default_of_every_setting_is_a_value_that_it_allows() -> None:
    for name, item in FIELDS.items():
        default = getattr(Config(), name)
        assert item.metadata["parse"](default) == default, name
        assert item.metadata["meaning"].endswith("."), name


def test_default_buckets_are_those_of_the_metric_contract() -> None:
    assert DEFAULT_DURATION_BUCKETS == (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


def test_a_false_option_wins_over_a_true_setting() -> None:
    assert not Config.load({"enabled": False}, settings={"PROM_ENABLED": True}).enabled


def test_a_bad_value_that_another_source_overrules_is_not_looked_at() -> None:
    assert Config.load({"path": "/o"}, environ={"PROM_PATH": "nonsense"}).path == "/o"


def test_other_keys_of_settings_and_environment_are_none_of_our_business() -> None:
    assert Config.load(settings={"DEBUG": 1, 7: 8, "PROMISE": 1}, environ={"PROMETHEUS_X": "1"}) == Config()  # type: ignore[dict-item]


@pytest.mark.parametrize("source", ["options", "settings"])
def test_an_unknown_key_is_refused_with_a_suggestion(source: str) -> None:
    with pytest.raises(ConfigError, match="DURATION_BUCKETS") as raised:
        load_from(source, "duration_bucket", (1,))
    message = str(raised.value)
    assert "duration_bucket" in message.lower()
    assert "did you mean" in message
    assert "PROM_MAX_LABEL_SETS" in message, "all settings are listed"


def test_an_unknown_key_unlike_any_other_is_refused_without_a_suggestion() -> None:
    with pytest.raises(ConfigError) as raised:
        Config.load(settings={"PROM_XYZZY": 1})
    assert "did you mean" not in str(raised.value)


def test_an_unknown_key_in_the_environment_is_only_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Kubernetes sets PROM_PORT where a service is called prom."""
    with caplog.at_level(logging.WARNING, "web_prom"):
        config = Config.load(environ={"PROM_PORT": "tcp://10.0.0.1:9090", "PROM_PATH": "/m"})
    assert config.path == "/m"
    (record,) = caplog.records
    assert "PROM_PORT" in record.getMessage()
    assert "10.0.0.1" not in record.getMessage()


def test_a_config_error_is_a_value_error_and_one_of_ours() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, WebPromError)


# Good values -----------------------------------------------------------------------------------------

GOOD: list[tuple[str, Any, Any]] = [
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
    ("extra_labels", f"level={HERE}.getLevelName", {"level": logging.getLevelName}),
    ("extra_labels", f"level={HERE}:getLevelName", {"level": logging.getLevelName}),
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
    ("allow_scrape", None, None),
    ("collector_timeout", 2.5, 2.5),
    ("collector_timeout", "0", 0.0),
    ("install_middleware", "off", False),
    ("instrument", "1", True),
    ("bind", "127.0.0.1:9464", Address("127.0.0.1", 9464)),
    ("bind", None, None),
    ("certfile", "/etc/ssl/shop.pem", Path("/etc/ssl/shop.pem")),
    ("certfile", None, None),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_a_good_value_is_taken(name: str, value: Any, expected: Any) -> None:
    assert getattr(load(**{name: value}), name) == expected
    if isinstance(value, str):
        assert getattr(Config.load(environ={PREFIX + name.upper(): value}), name) == expected


def test_every_setting_has_a_good_and_a_bad_value_in_these_tables() -> None:
    files = {"bearer_token_file", "basic_auth_file", "keyfile", "client_cafile"}
    booleans = {"request_size", "response_size", "first_byte", "queue_time"}
    assert {name for name, *_ in GOOD} | files | booleans == set(FIELDS)
    assert {name for name, *_ in BAD} | files == set(FIELDS)


@pytest.mark.parametrize("word", ["1", "true", "yes", "on", "True", "YES"])
def test_words_for_true(word: str) -> None:
    assert Config.load(environ={"PROM_REQUEST_SIZE": word}).request_size


@pytest.mark.parametrize("word", ["0", "false", "no", "off", "False"])
def test_words_for_false(word: str) -> None:
    assert not Config.load(environ={"PROM_ENABLED": word}).enabled


# Bad values ------------------------------------------------------------------------------------------

BAD_BUCKETS: list[Any] = [
    [], (), "", ",", [2, 1], [1, 1], [1, 2, 2], ["a"], "0.1,x", [None], [math.nan], [1, math.nan],
    [math.inf], [1, math.inf, math.inf], [-math.inf, 1], [-1, 1], 5, None, {1: 2}, b"12", [10**400],
    [[1]],
]  # fmt: skip
BAD_BOOLEANS: list[Any] = ["maybe", "2", 1, 0, None, [], "truefalse"]
BAD_LABELS: list[Any] = [
    "le", "__x", "__name__", "method", "route", "status", "exception", "quantile", "pid", "worker",
    "1st", "a-b", "a b", "", "ä", "a\n", 7, None,
]  # fmt: skip
BAD_NETWORKS: list[Any] = [
    "10.0.0.1/8", "10.0.0.0/33", "localhost", "fe80::/200", "", " ,", [""], [None], ["::1", "x"],
]  # fmt: skip
BAD_PATHS = ["x", "", "no.such.module.f", "os.no_such", "os.path", "os.", ".os.getpid", "os getpid"]
BAD: list[tuple[str, Any]] = [
    *(
        (name, value)
        for name, item in FIELDS.items()
        if item.default is True or item.default is False
        for value in BAD_BOOLEANS
    ),
    *(("path", value) for value in ("metrics", "/", "/a b", "/a?b", "/a#b", None, 7, b"/m", "/m\n", " /m")),
    *(("naming", value) for value in ("", "OpenTelemetry", "otel", None, True, 7)),
    *(("namespace", value) for value in ("1st", "a-b", "ä", " ", None, 7, "a\n", "a:b")),
    *(("constant_labels", {value: "x"}) for value in BAD_LABELS),
    *(("constant_labels", value) for value in ("site", "site=a,zone", "=a", None, 7, ["site"])),
    *(("constant_labels", value) for value in ({"a": "\udc80"}, "site=\udcff")),
    *(("extra_labels", {value: label}) for value in BAD_LABELS),
    *(("extra_labels", {"a": value}) for value in (7, None, *BAD_PATHS, async_label)),
    ("extra_labels", "a=no.such.module.f"),
    *(("duration_buckets", value) for value in BAD_BUCKETS),
    *(("size_buckets", value) for value in BAD_BUCKETS),
    *(("extra_methods", value) for value in (["A B"], ["Ä"], [""], [7], [None], ["GET\n"])),
    *(("extra_methods", value) for value in ("A B", None, 7, {"A": 1})),
    *(("exclude", value) for value in (["health"], "health", [""], [7], None, 7, {"/a": 1}, ["/ok", "bad"])),
    *(
        ("max_label_sets", value)
        for value in (0, -1, "0", "x", "", None, 1.5, True, math.inf, math.nan, "1.5", [1], "1e3", "inf")
    ),
    *(("collector_timeout", value) for value in (-1, "", "5s", None, True, math.inf, math.nan, 3601, [5])),
    *(("bearer_token", value) for value in ("", "  ", "\n", 7, b"token", ["t"])),
    *(("basic_auth", value) for value in ("", "user", ":password", "user:", 7, b"u:p", ("u", "p"), "u:p\n")),
    *(
        (name, value)
        for name in ("allowed_networks", "trusted_proxies")
        for value in BAD_NETWORKS
    ),
    *((name, value) for name in ("allowed_networks", "trusted_proxies") for value in (None, 7, b"10.0.0.1")),
    *(
        ("allow_scrape", value)
        for value in (7, *BAD_PATHS, async_label, b"os.getpid")
    ),
    *(("bind", value) for value in ("", "9464", "localhost", ":65536", "::1:80", "a b:1", "http://x:1", 80)),
    *((name, value) for name in ("certfile", "keyfile", "client_cafile") for value in ("", 7, b"x")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_refused_naming_key_and_value_and_what_is_allowed(name: str, value: Any) -> None:
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


def test_the_message_names_the_source() -> None:
    with pytest.raises(ConfigError, match=r"^PROM_PATH in the environment is 'x'; allowed: a URL path"):
        Config.load(environ={"PROM_PATH": "x"})
    with pytest.raises(ConfigError, match=r"^option 'path' is 'x'; allowed: a URL path"):
        Config.load({"path": "x"})


@pytest.mark.parametrize("key", ["PROM_MAX_LABEL_SETS", "PROM_DURATION_BUCKETS", "PROM_ALLOWED_NETWORKS"])
def test_an_empty_string_in_the_environment_is_no_silent_default(key: str) -> None:
    """A variable that was meant to be filled in must not open /metrics to everybody."""
    with pytest.raises(ConfigError, match=key):
        Config.load(environ={key: ""})


def test_a_reserved_label_is_named_in_the_message() -> None:
    with pytest.raises(ConfigError, match=r"'le' is reserved, .*quantile"):
        load(constant_labels={"le": "x"})


def test_a_dotted_path_that_cannot_be_imported_says_why() -> None:
    with pytest.raises(ConfigError, match=r"dotted path.*no_such_module") as raised:
        load(allow_scrape="no_such_module.f")
    assert "allowed: a callable" in str(raised.value)


def test_one_label_in_both_mappings_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'site'.*PROM_CONSTANT_LABELS.*PROM_EXTRA_LABELS"):
        load(constant_labels={"site": "a"}, extra_labels={"site": label})


# Secrets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bearer_token", "basic_auth"])
def test_a_secret_and_its_file_together_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("user:hush-hush")
    with pytest.raises(ConfigError, match=rf"PROM_{name.upper()} and PROM_{name.upper()}_FILE") as raised:
        load(**{name: "user:hush-hush", f"{name}_file": path})
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("name", ["bearer_token_file", "basic_auth_file"])
def test_a_secret_file_is_checked_at_start(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(ConfigError, match="No such file"):
        load(**{name: path})
    path.write_text(" \n")
    with pytest.raises(ConfigError, match="not empty"):
        load(**{name: path})
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="in UTF-8"):
        load(**{name: path})
    with pytest.raises(ConfigError, match="directory"):
        load(**{name: tmp_path})
    for nonsense in ("", 7, b"x", "\0"):
        with pytest.raises(ConfigError, match=name):
            load(**{name: nonsense})
    path.write_text("user:hush-hush\n")
    assert getattr(load(**{name: str(path)}), name) == path
    assert getattr(Config.load(environ={PREFIX + name.upper(): str(path)}), name) == path
    assert getattr(load(**{name: None}), name) is None


def test_a_basic_auth_file_must_hold_user_and_password(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("hush-hush")
    with pytest.raises(ConfigError, match="user:password") as raised:
        load(basic_auth_file=path)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("basic_auth", "hush-hush"), ("bearer_token", ["hush-hush"]), ("basic_auth", b"hush:hush")],
)
@pytest.mark.parametrize("source", ["options", "settings", "environ"])
def test_a_secret_never_appears_in_a_message(name: str, value: Any, source: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_from(source, name, value)
    assert "hush" not in str(raised.value)
    assert raised.value.__suppress_context__, "nor in the error that it was made from"


def test_a_secret_never_appears_in_a_repr() -> None:
    config = load(bearer_token="hush", basic_auth="user:hush")
    assert "hush" not in f"{config!r} {config} {dataclasses.asdict(config)} {vars(config)}"
    assert "/metrics" in repr(config)


TOKENS = [
    "hush-hush",
    "user:hush-hush",
    "hush/hush+hush==",
    "/hush+hush/Hush==",
    "/hush",
    "./hush",
    "Bearer hush hush",
    "hush\n",
    "hush" * 2000,
    "hush\0hush",
]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("name", ["bearer_token_file", "basic_auth_file"])
@pytest.mark.parametrize("source", ["options", "settings", "environ"])
def test_fault_77_a_secret_in_the_place_of_its_file_is_not_shown(name: str, source: str, token: str) -> None:
    with pytest.raises(ConfigError, match=name.upper() if source != "options" else name) as raised:
        load_from(source, name, token)
    assert "hush" not in str(raised.value).lower()


@pytest.mark.parametrize(
    "path", ["/run/secrets/scrape-token", "/nowhere/token", "/etc/Missing Token", "tests/x"]
)
def test_a_path_of_a_secret_that_cannot_be_read_is_shown(path: str) -> None:
    assert looks_like_path(path)
    with pytest.raises(ConfigError, match=f"is '{path}'; allowed: .*No such file"):
        load(bearer_token_file=path)


def test_fault_77_the_local_variables_of_a_traceback_do_not_show_a_secret() -> None:
    secrets = {"PROM_BEARER_TOKEN": "hush", "PROM_BASIC_AUTH": "user:hush"}
    with pytest.raises(ConfigError) as raised:
        Config.load({"max_label_sets": 0}, settings=secrets, environ=secrets)
    ours = [
        frame
        for frame in inspect.getinnerframes(raised.tb)
        if frame.filename.endswith("web_prom/config/settings.py")
    ]
    assert ours
    assert all("hush" not in repr(frame.frame.f_locals) for frame in ours)


def test_fault_77_a_secret_is_hidden_in_each_way_to_print_it() -> None:
    secret = Secret("hush")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        repr(copy.deepcopy(secret)),
    ]
    assert "hush" not in "".join(shown)
    assert secret.reveal() == "hush"


@pytest.mark.parametrize("name", ["bearer_token_file", "basic_auth_file"])
def test_fault_78_a_byte_order_mark_is_no_part_of_a_secret(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"\xef\xbb\xbfuser:hush\r\n")
    assert getattr(load(**{name: path}), name) == path
    path.write_bytes(b"\xef\xbb\xbf \r\n")
    with pytest.raises(ConfigError, match="not empty"):
        load(**{name: path})


# Immutability ----------------------------------------------------------------------------------------


def test_a_config_is_frozen_and_apart_from_what_it_was_made_of() -> None:
    labels, buckets = {"site": "a"}, [1.0, 2.0]
    config = load(constant_labels=labels, duration_buckets=buckets)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.path = "/x"  # type: ignore[misc]
    labels["site"] = "b"
    buckets.append(3.0)
    assert config.constant_labels == {"site": "a"}
    assert config.duration_buckets == (1.0, 2.0)
    assert Config().constant_labels is not Config().constant_labels


def test_configs_of_equal_values_are_equal() -> None:
    assert load(path="/a", duration_buckets="1,2") == load(path="/a", duration_buckets=[1, 2])
    assert load(path="/a") != load(path="/b")
