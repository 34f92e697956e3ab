"""The lifecycle of the exporter of a real gunicorn: end, replacement, reload and upgrade."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import make, trusting
from tests.servers.exporting import ANY_PORT, Exporting, Scrapers, ask, listening_inode
from tests.servers.load import Load, agree, held
from tests.servers.process import Gunicorn, Scratch, command, run, scratch, wait_until
from tests.servers.prometheus import Prometheus

pytestmark = pytest.mark.packages


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(scope="module")
def server() -> Iterator[Exporting]:
    """Run a server for all tests after which it serves on, with one exporter."""
    environ = {"PROM_BIND": f"127.0.0.1:{_free_port()}"}
    with scratch() as place, Exporting(place, workers=1, bind=None, environ=environ) as running:
        yield running


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        return int(reserved.getsockname()[1])


def exporters_so_far(server: Exporting) -> int:
    """Return how many exporters were started in all."""
    return server.log().count("Metrics at: ")


def is_counted(server: Exporting) -> bool:
    """Return whether the exporter reports one more request after a request."""
    before = server.total("http_requests_total")
    assert server.get("/")[0] == 200
    return bool(wait_until(lambda: server.total("http_requests_total") == before + 1, "the request"))


# End -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_exporter_ends_with_the_server(place: Scratch, number: int) -> None:
    """It answers scrapes until the master has ended, and no process is left then."""
    with Exporting(place, workers=1) as server:
        server.get("/")
        server.signal(number)
        assert server.wait() == 0
        wait_until(lambda: not server.processes(), "all processes to end", shown=server.log)
        assert "[ERROR] the exporter" not in server.log()


def test_exporter_ends_when_the_master_is_killed(place: Scratch) -> None:
    """A busy worker does not notice the end of its master, and holds everything that a fork inherits."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(place.folder / "shared")}
    with Exporting(place, workers=1, environ=environ) as server, held(server) as worker:
        server.signal(signal.SIGKILL)
        wait_until(
            lambda: not server.exporters() + server.supervisors(), "the exporter to end", shown=server.log
        )
        assert alive(worker)
        with socket.create_server(("127.0.0.1", server.metrics_port)):
            pass
        server.signal(signal.SIGKILL, worker)


def test_exporter_ignores_ctrl_c(place: Scratch) -> None:
    """A terminal sends SIGINT to all processes; the exporter runs until the server has ended."""
    with Exporting(place, workers=1) as server:
        (exporter,) = server.exporters()
        for number in (signal.SIGINT, signal.SIGHUP):
            for pid in (exporter, *server.supervisors()):
                server.signal(number, pid)
        assert server.total("http_requests_in_progress") == 0
        assert server.exporters() == [exporter]
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait() == 0
        wait_until(lambda: not server.processes(), "all processes to end", shown=server.log)


def test_exporter_answers_a_scrape_in_progress_at_shutdown(place: Scratch) -> None:
    """The connection is open, and its request arrives while the server shuts down."""
    with Exporting(place, workers=1) as server, held(server) as worker:
        with socket.create_connection(("127.0.0.1", server.metrics_port), 30) as scraper:
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
            (supervisor,) = server.supervisors()
            server.signal(signal.SIGTERM, supervisor)
            wait_until(lambda: not _listens(server.metrics_port), "the port to close")
            scraper.sendall(b"\r\n")
            assert b"http_requests_in_progress 1.0" in b"".join(iter(lambda: scraper.recv(65536), b""))
        server.signal(signal.SIGKILL, worker)


def _listens(port: int) -> bool:
    try:
        listening_inode(port)
    except AssertionError:
        return False
    return True


# Replacement -------------------------------------------------------------------------------------


def test_killed_exporter_is_replaced_without_a_refused_scrape(server: Exporting) -> None:
    before = server.total("http_requests_total")
    (exporter,) = server.exporters()
    server.signal(signal.SIGKILL, exporter)
    wait_until(lambda: not alive(exporter), "the exporter to die")
    assert server.total("http_requests_total") == before
    assert server.exporters() != [exporter]
    assert f"the exporter (pid {exporter}) was ended by SIGKILL; starting it again" in server.log()
    assert is_counted(server)


def test_exporter_that_cannot_start_is_retried_with_backoff(place: Scratch) -> None:
    """The server is not affected. Once the cause is removed, the exporter starts."""
    missing = place.folder / "late.pem"
    with Gunicorn(place, workers=1, environ={"PROM_BIND": ANY_PORT, "PROM_CERTFILE": str(missing)}) as server:
        wait_until(lambda: "again in 0.4 s" in server.log(), "three attempts", shown=server.log)
        attempts = re.findall(r"ended with code (\d); starting it again in (\S+) s", server.log())
        assert attempts[:3] == [("2", "0.1"), ("2", "0.2"), ("2", "0.4")]
        assert f"PROM_CERTFILE {missing} cannot be used" in server.log()
        assert server.get("/")[0] == 200
        certificate, key = make(place.folder, "server")
        written = missing.with_suffix(".new")
        written.write_bytes(certificate.read_bytes() + key.read_bytes())
        written.rename(missing)
        wait_until(lambda: "Metrics at: https://" in server.log(), "the exporter", shown=server.log)
        (port,) = re.findall(r"Metrics at: https://\S*:(\d+)/", server.log())
        assert ask(int(port), tls=trusting(certificate))[0] == 200


def test_fault_74_killed_supervisor_is_replaced_with_its_exporter(server: Exporting) -> None:
    """It happens twice, without a reload, and is logged."""
    line = "[ERROR] The exporter's supervisor has exited"
    started, logged = exporters_so_far(server), server.log().count(line)
    for count in (1, 2):
        (supervisor,) = server.supervisors()
        server.signal(signal.SIGKILL, supervisor)
        assert server.wait_for_exporters(started + count) == server.metrics_port
        assert is_counted(server)
        assert server.log().count(line) == logged + count
    assert len(server.supervisors()) == len(server.exporters()) == 1
    # A reload finds it alive and keeps it.
    before = server.exporters()
    reload(server)
    assert server.exporters() == before


def test_fault_74_exporter_that_hangs_is_replaced(server: Exporting) -> None:
    started = exporters_so_far(server)
    (exporter,) = server.exporters()
    server.signal(signal.SIGSTOP, exporter)
    assert server.wait_for_exporters(started + 1) == server.metrics_port
    assert is_counted(server)
    assert f"[ERROR] the exporter (pid {exporter}) hangs; it is killed" in server.log()
    assert not alive(exporter)


def test_fault_74_nothing_is_restarted_at_shutdown(place: Scratch) -> None:
    with Exporting(place, workers=1) as server, held(server) as worker:
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGKILL, server.supervisors()[0])
        wait_until(lambda: not server.supervisors(), "the supervisor to end")
        server.signal(signal.SIGKILL, worker)
        assert server.wait() == 0
        wait_until(lambda: not server.processes(), "the exporter of the killed supervisor to end")


def test_port_in_use_is_logged_and_the_server_continues(place: Scratch) -> None:
    """The exporter binds the port once it is free."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        server = Gunicorn(place, workers=1, environ={"PROM_BIND": address})
        server.__enter__()
        with contextlib.ExitStack() as stack:
            stack.push(server)
            assert server.get("/")[0] == 200
            assert re.search(
                rf"\[ERROR\] No exporter yet: cannot listen at {address} \(Address", server.log()
            )
            other.close()
            wait_until(
                lambda: f"Metrics at: http://{address}/" in server.log(), "the exporter", shown=server.log
            )
            assert ask(int(address.rpartition(":")[2]))[0] == 200


def test_invalid_exporter_settings_stop_the_start(place: Scratch) -> None:
    for environ in ({"PROM_BIND": "9464"}, {"PROM_BIND": ANY_PORT, "PROM_KEYFILE": "x"}):
        done = run(place, command(), **environ)
        assert done.returncode == 1
        assert re.fullmatch(r"Error: PROM_\w+ .*", done.stderr.splitlines()[-1])


# Reload and upgrade ----------------------------------------------------------------------------------


def reload(server: Exporting) -> None:
    """Reload a server that has one worker, and wait for the next worker."""
    boots = server.log().count("Booting worker")
    server.signal(signal.SIGHUP)
    server.wait_for_boots(boots + 1)


def test_reload_keeps_the_exporter(server: Exporting) -> None:
    """No setting of the exporter changed."""
    before = server.exporters()
    with Scrapers(server.metrics_port) as scrapers:
        for _ in range(2):
            reload(server)
            scrapers.wait_for_more()
    assert server.exporters() == before
    assert scrapers.failures == []


def test_reload_applies_changed_settings_without_a_refused_scrape(place: Scratch) -> None:
    """The new exporter has the port of the old one. Then it is disabled, and then enabled again."""
    config = place.configuration("")

    def asking_for(*settings: str) -> None:
        config.write_text(f"from web_prom.gunicorn import *\nraw_env = {list(settings)}\n")

    asking_for(f"PROM_BIND={ANY_PORT}")
    with Exporting(place, workers=1, bind=None, config=config) as server:
        with Scrapers(server.metrics_port) as scrapers:
            scrapers.wait_for_more()
            asking_for(f"PROM_BIND={ANY_PORT}", "PROM_PATH=/metrics/")
            server.signal(signal.SIGHUP)
            assert server.wait_for_exporters(2) == server.metrics_port
            scrapers.wait_for_more()
            wait_until(lambda: len(server.exporters()) == 1, "the former exporter to end")
        assert scrapers.failures == []
        asking_for()
        server.signal(signal.SIGHUP)
        wait_until(lambda: not server.exporters() + server.supervisors(), "the exporter to end")
        asking_for(f"PROM_BIND={ANY_PORT}")
        server.signal(signal.SIGHUP)
        assert ask(server.wait_for_exporters(3))[0] == 200


@pytest.mark.parametrize("invalid", ["PROM_BIND=nonsense", "PROM_BEARER_TOKEN_FILE=/no/such/file"])
@pytest.mark.parametrize("arguments", [(), ("--preload",)], ids=["loaded late", "preloaded"])
def test_reload_with_invalid_settings_keeps_the_exporter(
    place: Scratch, invalid: str, arguments: tuple[str, ...]
) -> None:
    """A reload must not end a server that serves. This application refuses such settings."""
    valid = f"PROM_BIND={ANY_PORT}"
    config = place.configuration(f"from web_prom.gunicorn import *\nraw_env = [{valid!r}]\n")
    with Exporting(place, *arguments, workers=1, bind=None, config=config) as server:
        before = server.exporters()
        config.write_text(f"from web_prom.gunicorn import *\nraw_env = [{valid!r}, {invalid!r}]\n")
        server.signal(signal.SIGHUP)
        server.wait_for_boots(2)
        wait_until(lambda: "Worker exiting" in server.log(), "a worker to end", shown=server.log)
        assert server.log().count("The exporter is not changed: PROM_B") == 1
        assert server.exporters() == before
        assert ask(server.metrics_port)[0] == 200
        assert is_counted(server)


def test_reload_with_invalid_settings_keeps_those_of_the_workers(place: Scratch) -> None:
    """The workers answer scrapes themselves, and require the former token."""
    config = place.configuration(
        "from web_prom.gunicorn import *\nraw_env = ['PROM_BEARER_TOKEN_FILE=token']\n"
    )
    (place.folder / "token").write_text("a-long-secret-token")
    with Gunicorn(place, config=config, workers=1) as server:
        assert server.get("/metrics")[0] == 401
        config.write_text("from web_prom.gunicorn import *\nraw_env = ['PROM_BIND=nonsense']\n")
        server.signal(signal.SIGHUP)
        server.wait_for_boots(2)
        wait_until(lambda: len(server.workers()) == 1, "the older worker to end")
        assert server.get("/metrics")[0] == 401
        assert server.get("/")[0] == 200


def test_upgrade_keeps_the_port_without_a_failed_scrape(place: Scratch) -> None:
    """Two exporters answer at one port while there are two servers; later there is one of each."""
    with Exporting(place, "--preload", workers=1) as server:
        with Scrapers(server.metrics_port) as scrapers, Load(server, 300) as load:
            (former,) = server.exporters()
            server.signal(signal.SIGUSR2)
            assert server.wait_for_exporters(2) == server.metrics_port
            server.wait_for_boots(2)
            scrapers.wait_for_more()
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            assert not alive(former)
            scrapers.wait_for_more()
        assert scrapers.failures == []
        account = agree(server)
        assert load.errors == []
        assert server.total("http_requests_total") == sum(account.values())
        assert len(server.exporters()) == 1


def test_prometheus_sees_the_target_up_throughout(place: Scratch) -> None:
    """Over TLS, with certificate and token, while the exporter is killed and the server is upgraded."""
    ours, client = make(place.folder, "server"), make(place.folder, "client")
    (place.folder / "token").write_text("open sesame\n")
    environ = {
        "PROM_CERTFILE": str(ours[0]),
        "PROM_KEYFILE": str(ours[1]),
        "PROM_CLIENT_CAFILE": str(client[0]),
        "PROM_BEARER_TOKEN_FILE": str(place.folder / "token"),
    }
    with Exporting(place, workers=1, environ=environ) as server:
        # Prometheus scrapes each of the targets, which are the same exporter, at another time.
        targets = [
            f"{{targets: ['127.0.0.1:{server.metrics_port}'], labels: {{copy: '{number}'}}}}"
            for number in range(8)
        ]
        # A scrape waits for the start of an interpreter while the exporter is replaced.
        configuration = f"""
            global: {{scrape_interval: 4s, scrape_timeout: 4s}}
            scrape_configs:
              - job_name: shop
                scheme: https
                tls_config: {{ca_file: {ours[0]}, cert_file: {client[0]}, key_file: {client[1]}}}
                authorization: {{credentials_file: {place.folder}/token}}
                static_configs: [{", ".join(targets)}]
        """
        with Prometheus(place.folder, configuration) as prometheus:
            wait_for_scrapes(prometheus, 1)
            server.signal(signal.SIGKILL, server.exporters()[0])
            server.wait_for_exporters(2)
            wait_for_scrapes(prometheus, 4)
            server.signal(signal.SIGUSR2)
            server.wait_for_exporters(3)
            server.wait_for_boots(2)
            wait_for_scrapes(prometheus, 4)
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            wait_for_scrapes(prometheus, 8)
            assert prometheus.number('min(min_over_time(up{job="shop"}[1h]))') == 1


def wait_for_scrapes(prometheus: Prometheus, more: int) -> None:
    """Wait until it has scraped so many targets more with success."""

    def scrapes() -> float:
        return prometheus.number("sum(sum_over_time(up[1h]))")

    wanted = scrapes() + more
    wait_until(lambda: scrapes() >= wanted, "scrapes")


def test_aborted_upgrade_fails_no_scrape(place: Scratch) -> None:
    """The new server ends first. A second upgrade finds the port, too."""
    with Exporting(place, workers=1) as server, Scrapers(server.metrics_port) as scrapers:
        for exporters in (2, 3):
            (former,) = server.exporters()
            server.signal(signal.SIGUSR2)
            server.wait_for_exporters(exporters)
            server.wait_for_boots(exporters)
            (new,) = {pid for pid, parent in server.processes().items() if parent == server.pid} & _masters(
                server
            )
            server.signal(signal.SIGTERM, new)
            wait_until(lambda new=new: not alive(new), "the new server to end")  # type: ignore[misc]
            assert server.exporters() == [former]
            scrapers.wait_for_more()
    assert scrapers.failures == []


def _masters(server: Exporting) -> set[int]:
    parents = server.processes()
    return {parents[pid] for pid in server.supervisors()}


def test_second_server_does_not_share_the_exporters_port(place: Scratch, server: Exporting) -> None:
    """Otherwise each would answer every second scrape."""
    before = server.total("http_requests_total")
    with Gunicorn(place, workers=1, environ={"PROM_BIND": f"127.0.0.1:{server.metrics_port}"}) as other:
        assert "No exporter yet" in other.log()
        other.get("/")
        for _ in range(10):
            assert server.total("http_requests_total") == before
