"""Secrets in settings: their files, and that they are hidden."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

from tests.web_prom.config.support import load, load_from
from web_prom.config import PREFIX, Config
from web_prom.config.credentials import Secret, looks_like_path
from web_prom.errors import ConfigError


@pytest.mark.parametrize("name", ["bearer_token", "basic_auth"])
def test_load_rejects_a_secret_with_its_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("user:hush-hush")
    with pytest.raises(ConfigError, match=rf"PROM_{name.upper()} and PROM_{name.upper()}_FILE") as raised:
        load(**{name: "user:hush-hush", f"{name}_file": path})
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("name", ["bearer_token_file", "basic_auth_file"])
def test_parse_secret_file_reads_the_file(name: str, tmp_path: Path) -> None:
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


def test_parse_credentials_file_requires_user_and_password(tmp_path: Path) -> None:
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
def test_config_error_does_not_contain_the_secret(name: str, value: Any, source: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_from(source, name, value)
    assert "hush" not in str(raised.value)
    assert raised.value.__suppress_context__, "nor in the error that it was made from"


def test_config_repr_does_not_contain_secrets() -> None:
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
def test_fault_77_config_error_hides_a_secret_that_was_set_as_a_file(
    name: str, source: str, token: str
) -> None:
    with pytest.raises(ConfigError, match=name.upper() if source != "options" else name) as raised:
        load_from(source, name, token)
    assert "hush" not in str(raised.value).lower()


@pytest.mark.parametrize(
    "path", ["/run/secrets/scrape-token", "/nowhere/token", "/etc/Missing Token", "tests/x"]
)
def test_config_error_shows_the_path_of_a_secret_file(path: str) -> None:
    assert looks_like_path(path)
    with pytest.raises(ConfigError, match=f"is '{path}'; allowed: .*No such file"):
        load(bearer_token_file=path)


def test_fault_77_traceback_does_not_contain_secrets() -> None:
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


def test_fault_77_secret_is_hidden_when_it_is_printed() -> None:
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
def test_fault_78_read_secret_removes_the_byte_order_mark(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"\xef\xbb\xbfuser:hush\r\n")
    assert getattr(load(**{name: path}), name) == path
    path.write_bytes(b"\xef\xbb\xbf \r\n")
    with pytest.raises(ConfigError, match="not empty"):
        load(**{name: path})
