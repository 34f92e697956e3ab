"""The exporter's application: totals of all processes, access control, path, and unreadable directories."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.web_prom.http_server.serving import RunningServer
from tests.web_prom.support import environ_of, python
from web_prom.config import Config
from web_prom.config.credentials import Secret
from web_prom.config.exporter_settings import load_exporter_config
from web_prom.exporter.directory_app import DirectoryMetricsApp
from web_prom.exposition.http import Response

pytestmark = pytest.mark.slow

WRITES = """
    from prometheus_client import Counter

    Counter("orders_total", "Orders.").inc(2)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory to which two processes have written. The tests only read it."""
    made = tmp_path_factory.mktemp("shared")
    for _ in range(2):
        python(WRITES, PROMETHEUS_MULTIPROC_DIR=str(made))
    return made


def scrape(directory: Path, config: Config | None = None, path: str = "/metrics", **more: Any) -> Response:
    return DirectoryMetricsApp(directory, config or Config())(environ_of(path, **more))


def test_fault_29_answer_contains_the_totals_of_all_processes(directory: Path) -> None:
    answer = scrape(directory)
    assert answer.status == "200 OK"
    assert b"\norders_total 4.0\n" in answer.body
    assert b"web_prom_scrape_duration_seconds" in answer.body


def test_fault_23_answer_contains_process_metrics_and_metrics_about_workers(tmp_path: Path) -> None:
    """Metrics of the application's registry that are in no value file are missing."""
    code = """
        import os
        from pathlib import Path
        from prometheus_client import Counter, Gauge, Info
        from tests.web_prom.support import environ_of
        from web_prom.config import Config
        from web_prom.exporter.directory_app import DirectoryMetricsApp
        from web_prom.multiprocess.writing.activation import share_values

        share_values()
        Counter("orders_total", "Orders.").inc(2)
        Info("build", "Help.").info({"version": "7"})
        Gauge("line", "Help.", multiprocess_mode="max").set_function(lambda: 7)
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]
        answer = DirectoryMetricsApp(Path(os.sys.argv[1]), Config())(environ_of("/metrics"))
        print(answer.body.decode())
    """
    text = python(code, str(tmp_path), PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert "\norders_total 2.0\n" in text
    assert "\nline 0.0\n" in text, "the callback is the application's"
    assert 'process_resident_memory_bytes{worker="0"} ' in text
    assert "\nweb_prom_workers 1.0\n" in text
    assert f"\nweb_prom_files {len(list(tmp_path.glob('*.db')))}.0\n" in text
    assert "\nweb_prom_damaged_files 0.0\n" in text
    assert "build" not in text
    assert "python_info" not in text


def test_fault_24_names_restrict_the_answer(directory: Path) -> None:
    answer = scrape(directory, QUERY_STRING="name[]=orders_total&name[]=web_prom_workers")
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    assert lines == ["orders_total 4.0", "web_prom_workers 0.0"]


def test_directory_is_not_modified(directory: Path) -> None:
    before = {path: path.read_bytes() for path in directory.iterdir()}
    scrape(directory)
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize(
    ("configured", "asked", "status"),
    [
        ("/metrics", "/metrics", "200 OK"),
        ("/metrics", "/metrics/", "200 OK"),
        ("/metrics", "/", "404 Not Found"),
        ("/metrics", "/metricsx", "404 Not Found"),
        ("/numbers", "/numbers", "200 OK"),
        ("/numbers", "/metrics", "404 Not Found"),
        ("", "/metrics", "200 OK"),
    ],
)
def test_scrapes_are_answered_at_the_configured_path(
    directory: Path, configured: str, asked: str, status: str
) -> None:
    """An empty path disables scrapes of the application, but not those of the exporter."""
    assert scrape(directory, Config.load({"path": configured}), asked).status == status


def test_directory_may_be_created_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sidecar may start before the application. Each change is logged once."""
    caplog.set_level(logging.INFO)
    scrapes = DirectoryMetricsApp(tmp_path / "later", Config())
    for _ in range(2):
        assert scrapes(environ_of("/metrics")).status == "503 Service Unavailable"
    (tmp_path / "later").mkdir()
    for _ in range(2):
        assert scrapes(environ_of("/metrics")).status == "200 OK"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def _basic(text: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Basic {base64.b64encode(text.encode()).decode()}"}


BEARER = {"bearer_token": "open sesame"}
BASIC = {"basic_auth": "ann:secret"}
NETWORK = {"allowed_networks": "10.0.0.0/8"}


@pytest.mark.parametrize(
    ("options", "request_", "status"),
    [
        (BEARER, {}, 401),
        (BEARER, {"HTTP_AUTHORIZATION": "Bearer wrong"}, 401),
        (BEARER, {"HTTP_AUTHORIZATION": "Bearer open sesame"}, 200),
        (BASIC, {}, 401),
        (BASIC, _basic("ann:wrong"), 401),
        (BASIC, _basic("ann:secret"), 200),
        (NETWORK, {"REMOTE_ADDR": "127.0.0.1"}, 403),
        (NETWORK, {"REMOTE_ADDR": "10.1.2.3"}, 200),
        (NETWORK, {"REMOTE_ADDR": "::ffff:10.1.2.3"}, 200),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_access_control_is_applied(
    directory: Path, options: Mapping[str, str], request_: Mapping[str, str], status: int, there: bool
) -> None:
    """Refused clients do not see whether the directory can be read."""
    expected = 503 if status == 200 and not there else status
    place = directory if there else directory / "missing"
    answer = scrape(place, Config.load(options), **request_)
    assert answer.status.startswith(str(expected))
    assert (b"orders_total" in answer.body) == (expected == 200)


def test_settings_of_the_application_are_ignored() -> None:
    """The exporter starts even if a setting names a module that only the application can import."""
    environ = {
        "PROM_EXTRA_LABELS": "tenant=no.such.module",
        "PROM_DURATION_BUCKETS": "nonsense",
        "PROM_BIND": "127.0.0.1:9464",
        "PROM_BEARER_TOKEN": "x",
    }
    config = load_exporter_config(environ)
    assert (str(config.bind), config.extra_labels) == ("127.0.0.1:9464", {})
    assert config.bearer_token == Secret("x")


def test_unknown_setting_in_the_environment_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A token in a misspelt variable would leave the port open."""
    load_exporter_config({"PROM_BEARER_TOKN": "x"})
    assert "PROM_BEARER_TOKN" in caplog.text


def test_fault_78_refused_client_does_not_see_the_path(directory: Path) -> None:
    config = load_exporter_config({"PROM_PATH": "/hidden", "PROM_BEARER_TOKEN": "sesame"})
    for path in ("/", "/metrics", "/hidden", "/hidden/x"):
        answer = scrape(directory, config, path)
        assert answer.status == "401 Unauthorized"
        assert answer.body == b""
    told = scrape(directory, config, "/", HTTP_AUTHORIZATION="Bearer sesame")
    assert (told.status, told.body) == ("404 Not Found", b"metrics are at /hidden\n")
    networks = load_exporter_config({"PROM_PATH": "/hidden", "PROM_ALLOWED_NETWORKS": "10.0.0.0/8"})
    assert scrape(directory, networks, "/", REMOTE_ADDR="192.0.2.1").status == "403 Forbidden"


@pytest.mark.parametrize("path", ["/größe", "/metriken/été", "/指标"])
def test_fault_78_path_can_contain_non_ascii_letters(directory: Path, path: str) -> None:
    scrapes = DirectoryMetricsApp(directory, load_exporter_config({"PROM_PATH": path}))
    with RunningServer(scrapes) as serving:
        assert serving.get(quote(path))[0] == 200
        assert serving.get(quote(path) + "/")[0] == 200
        status, _, body = serving.get("/metrics")
        assert (status, body.decode()) == (404, f"metrics are at {path}\n")
