"""Certificates of the server and of its clients."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import make, trusting
from tests.web_prom.http_server.serving import RunningServer, everything
from web_prom.config import Config
from web_prom.config.credentials import Secret
from web_prom.errors import ConfigError
from web_prom.exporter.directory_app import DirectoryMetricsApp
from web_prom.exposition.http import Response, text_response
from web_prom.http_server.tls import Certificates
from web_prom.live.keeper import HistoryKeeper

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def server(folder: Path) -> Pair:
    return make(folder, "server")


@pytest.fixture(scope="module")
def client(folder: Path) -> Pair:
    return make(folder, "client")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Pair:
    return make(folder, "stranger")


def test_scrapes_use_tls(server: Pair) -> None:
    with RunningServer(certificates=Certificates(*server)) as serving:
        assert serving.get(tls=trusting(server[0]))[0] == 200
        with serving.client() as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in everything(plain)


@pytest.mark.parametrize(("encrypted", "scheme"), [(True, "https"), (False, "http")])
def test_environ_has_the_scheme(server: Pair, encrypted: bool, scheme: str) -> None:
    def respond(environ: Mapping[str, Any]) -> Response:
        return text_response("200 OK", environ["wsgi.url_scheme"])

    certificates = Certificates(*server) if encrypted else None
    with RunningServer(respond, certificates=certificates) as serving:
        assert serving.get(tls=trusting(server[0]) if encrypted else None)[2] == scheme.encode()


@pytest.mark.parametrize(("encrypted", "secure"), [(True, ["Secure"]), (False, [])])
def test_cookie_of_the_live_page_is_sent_over_tls_only(
    server: Pair, encrypted: bool, secure: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HistoryKeeper, "start", lambda keeper: None)
    app = DirectoryMetricsApp(tmp_path, Config(live=True, bearer_token=Secret("s3cret")))
    certificates = Certificates(*server) if encrypted else None
    with RunningServer(app, certificates=certificates) as serving:
        tls = trusting(server[0]) if encrypted else None
        begun = serving.get("/live/session", tls=tls, Authorization="Bearer s3cret")
    assert begun[0] == 204
    attributes = begun[1]["Set-Cookie"].split("; ")
    assert [each for each in attributes if each == "Secure"] == secure


def test_certificate_and_key_can_be_in_one_file(server: Pair, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(server[0].read_bytes() + server[1].read_bytes())
    with RunningServer(certificates=Certificates(both)) as serving:
        assert serving.get(tls=trusting(server[0]))[0] == 200


def test_client_without_certificate_is_refused(server: Pair, client: Pair, stranger: Pair) -> None:
    with RunningServer(certificates=Certificates(*server, client[0])) as serving:
        assert serving.get(tls=trusting(server[0], client))[0] == 200
        for shown in (None, stranger):
            with pytest.raises(OSError, match=r"SSL|reset|pipe|EOF"):
                serving.get(tls=trusting(server[0], shown))


def test_client_without_handshake_blocks_no_other(server: Pair) -> None:
    with RunningServer(certificates=Certificates(*server)) as serving, serving.client():
        assert serving.get(tls=trusting(server[0]))[0] == 200


def test_renewed_certificate_is_used_for_the_next_connection(
    server: Pair, stranger: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid or incomplete certificate leaves the previous one in use."""
    caplog.set_level(logging.INFO)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(server[0].read_bytes())
    key.write_bytes(server[1].read_bytes())
    with RunningServer(certificates=Certificates(certificate, key)) as serving:
        certificate.write_bytes(stranger[0].read_bytes())
        for _ in range(2):
            assert serving.get(tls=trusting(server[0]))[0] == 200
        key.write_bytes(stranger[1].read_bytes())
        assert serving.get(tls=trusting(stranger[0]))[0] == 200
        with pytest.raises(ssl.SSLError):
            serving.get(tls=trusting(server[0]))
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


@pytest.mark.parametrize("case", ["missing", "no certificate", "another's key", "with a password", "roots"])
def test_unusable_files_are_named_in_the_error(
    case: str, server: Pair, stranger: Pair, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.pem"
    files: tuple[Path, ...] = (wrong,)
    if case == "no certificate":
        wrong.write_text("no certificate")
    elif case == "another's key":
        files = (server[0], stranger[1])
    elif case == "with a password":
        files = make(tmp_path, "locked", password="secret")
    elif case == "roots":
        files = (*server, wrong)
    with pytest.raises(ConfigError, match=rf"{files[-1].name} cannot be used"):
        Certificates(*files)


@pytest.mark.parametrize(
    ("days", "words"),
    [(-1, "is not valid before"), (1, None), (3, "expired on")],
)
def test_fault_78_certificate_outside_its_validity_is_logged_once_an_hour(
    days: int,
    words: str | None,
    server: Pair,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the start, and when the certificate expires later."""
    made = [Certificates(*server)]
    assert caplog.records == []
    now = time.time() + days * 86_400
    monkeypatch.setattr("web_prom.http_server.tls.time.time", lambda: now)
    made.append(Certificates(*server))
    for _ in range(3):
        for certificates in made:
            certificates.context()
    found = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(found) == (2 if words else 0)
    for record in found:
        assert f"the certificate in {server[0]} {words} 20" in record.getMessage()
