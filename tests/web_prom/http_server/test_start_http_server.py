"""``start_http_server``: the signature of prometheus_client, settings, and forked child processes."""

from __future__ import annotations

import contextlib
import errno
import gzip
import inspect
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter

from tests.certificates import make, trusting
from tests.web_prom.http_server.serving import PATIENCE_SECONDS, ask, everything
from tests.web_prom.support import ROOT, python
from web_prom import ConfigError, start_http_server
from web_prom.errors import ListenError
from web_prom.http_server.start_http_server import MetricsServer

BEARER = "Bearer sesame"

# Python 3.12 warns of a fork in a process with threads. A parent that serves and forks has no choice.
FORKS = "This process .* is multi-threaded, use of fork"


@contextlib.contextmanager
def serving(registry: CollectorRegistry, **options: Any) -> Iterator[MetricsServer]:
    """Serve on a free port of the loopback interface."""
    server, thread = start_http_server(0, "127.0.0.1", registry, **options)
    try:
        yield server
    finally:
        server.shutdown()
    assert not thread.is_alive()


def in_child(work: Callable[[], object]) -> None:
    """Run a function in a forked child, and check that it returns true."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


# As prometheus_client's ------------------------------------------------------------------------------------


def test_signature_is_that_of_prometheus_client() -> None:
    """The parameters of its newest release have the same names, order and defaults."""
    theirs = list(inspect.signature(prometheus_client.start_http_server).parameters.values())
    ours = list(inspect.signature(start_http_server).parameters.values())
    for their, our in zip(theirs, ours, strict=False):
        assert (our.name, our.kind, our.default) == (their.name, their.kind, their.default)
    assert all(our.kind is our.KEYWORD_ONLY for our in ours[11:])


def test_start_returns_a_server_and_its_daemon_thread(registry: CollectorRegistry) -> None:
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    assert thread.is_alive()
    assert thread.daemon
    assert server.server_address == ("127.0.0.1", server.server_port)
    server.shutdown()
    assert not thread.is_alive()
    server.server_close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.server_port))


def test_scrape_is_that_of_other_endpoints(registry: CollectorRegistry) -> None:
    """Every path, formats, names, gzip, HEAD, and the metrics about the scrape."""
    Counter("jobs", "Jobs.", registry=registry).inc(3)
    with serving(registry) as server:
        for path in ("/metrics", "/", "/any?name[]=other&name[]=jobs_total"):
            status, headers, body = ask(server.server_port, path)
            assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
            assert b"\njobs_total 3.0\n" in body
            assert (b"web_prom_scrape_duration_seconds" in body) == ("?" not in path)
        _, headers, body = ask(server.server_port, Accept="application/openmetrics-text;version=1.0.0")
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        assert body.endswith(b"# EOF\n")
        _, headers, body = ask(server.server_port, Accept_Encoding="gzip")
        assert b"jobs_total 3.0" in gzip.decompress(body)
        assert ask(server.server_port, method="HEAD")[2] == b""
        assert ask(server.server_port, method="POST")[0] == 405


def test_port_can_be_reused_after_shutdown(registry: CollectorRegistry) -> None:
    with serving(registry) as server:
        ask(server.server_port)
    again, _ = start_http_server(server.server_port, "127.0.0.1", registry)
    try:
        assert ask(again.server_port)[0] == 200
    finally:
        again.shutdown()


@pytest.mark.parametrize("addr", ["", "::"])
def test_all_addresses_include_ipv4_and_ipv6(registry: CollectorRegistry, addr: str) -> None:
    """The server of prometheus_client accepts IPv4 on ``::`` too."""
    server, _ = start_http_server(0, addr, registry)
    try:
        assert ask(server.server_port)[0] == 200
    finally:
        server.shutdown()


def test_fault_64_default_address_includes_ipv6(registry: CollectorRegistry) -> None:
    seen: list[str] = []

    def note(environ: Mapping[str, Any]) -> bool:
        seen.append(environ["REMOTE_ADDR"])
        return True

    server, _ = start_http_server(0, registry=registry, allow_scrape=note)
    try:
        for host in ("127.0.0.1", *_hosts_of_ipv6()):
            with socket.create_connection((host, server.server_port), PATIENCE_SECONDS) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert everything(client).startswith(b"HTTP/1.1 200 ")
    finally:
        server.shutdown()
    assert seen == ["127.0.0.1", *_hosts_of_ipv6()]


def test_fault_64_given_address_is_used(registry: CollectorRegistry) -> None:
    """``0.0.0.0`` is IPv4 only, as in prometheus_client."""
    server, _ = start_http_server(0, "0.0.0.0", registry)
    try:
        assert server.server_address == ("0.0.0.0", server.server_port)
        assert ask(server.server_port)[0] == 200
        for host in _hosts_of_ipv6():
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, server.server_port), PATIENCE_SECONDS)
    finally:
        server.shutdown()


@pytest.mark.parametrize("kind", ["no IPv6", "IPv6 is off"])
def test_fault_64_ipv4_is_used_without_ipv6(
    kind: str, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "no IPv6":
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    create = socket.create_server

    def without(address: Any, *, family: int = socket.AF_INET, **options: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "as meant")
        return create(address, family=family, **options)

    monkeypatch.setattr(socket, "create_server", without)
    server, _ = start_http_server(0, registry=registry)
    try:
        assert ask(server.server_port)[0] == 200
    finally:
        server.shutdown()


def _hosts_of_ipv6() -> list[str]:
    """Return the IPv6 loopback address of this machine, if it has one."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return ["::1"]
    except OSError:
        return []


# Settings --------------------------------------------------------------------------------------------------


def test_access_control_is_set_by_arguments(registry: CollectorRegistry) -> None:
    with serving(registry, bearer_token="sesame") as server:
        assert ask(server.server_port)[0] == 401
        assert ask(server.server_port, Authorization=BEARER)[0] == 200
    with serving(registry, allowed_networks=["192.0.2.0/24"]) as server:
        assert ask(server.server_port)[0] == 403


def test_access_control_is_set_by_the_environment(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is read once, at the call. The path and the labels of the application have no effect."""
    (tmp_path / "token").write_text("sesame")
    monkeypatch.setenv("PROM_BEARER_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("PROM_PATH", "/elsewhere")
    monkeypatch.setenv("PROM_EXTRA_LABELS", "tenant=no.such.module")
    with serving(registry) as server:
        monkeypatch.delenv("PROM_BEARER_TOKEN_FILE")
        assert ask(server.server_port)[0] == 401
        assert ask(server.server_port, Authorization=BEARER)[0] == 200


def test_arguments_override_the_environment(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For each combination of a secret and a secret file."""
    (tmp_path / "token").write_text("another")
    monkeypatch.setenv("PROM_BEARER_TOKEN_FILE", str(tmp_path / "token"))
    with serving(registry, bearer_token="sesame") as server:
        assert ask(server.server_port, Authorization=BEARER)[0] == 200


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"port": 65536}, r"port is 65536; allowed: a number from 0 to 65535"),
        ({"port": "9100"}, r"port is '9100'; allowed: a number"),
        (
            {"allowed_networks": "office"},
            r"option 'allowed_networks' is 'office'; allowed: networks, for example",
        ),
        ({"bearer_token": "a", "bearer_token_file": __file__}, r"both set; keep one"),
        ({"keyfile": "key.pem"}, r"PROM_KEYFILE is set and PROM_CERTFILE is not"),
        ({"client_auth_required": True}, r"client certificates are asked for without TLS; give a certfile"),
        ({"client_capath": "/etc/ssl/certs"}, r"client certificates are asked for without TLS"),
        ({"certfile": "/no/such.pem"}, r"/no/such\.pem cannot be used .*No such file"),
    ],
)
def test_invalid_arguments_raise_config_error(registry: CollectorRegistry, options: Any, told: str) -> None:
    """No thread is left."""
    before = set(threading.enumerate())  # threads of an earlier test may just be ending
    with pytest.raises(ConfigError, match=told):
        start_http_server(**{"port": 0, "addr": "127.0.0.1", "registry": registry, **options})
    assert before.issuperset(threading.enumerate())


def test_used_port_raises_an_error_with_the_remedy(registry: CollectorRegistry) -> None:
    """As docs/how-to/jobs.rst shows it. ``errno`` is that of prometheus_client's error."""
    with serving(registry) as server, pytest.raises(ListenError) as told:
        start_http_server(server.server_port, "127.0.0.1", registry)
    assert told.value.errno == errno.EADDRINUSE
    document = " ".join((ROOT / "docs" / "how-to" / "jobs.rst").read_text("utf-8").split())
    assert str(told.value).replace(f"127.0.0.1:{server.server_port}", ":9464") in document


def test_foreign_address_raises_listen_error(registry: CollectorRegistry) -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:0 \(Cannot assign") as told:
        start_http_server(0, "192.0.2.1", registry)
    assert told.value.errno == errno.EADDRNOTAVAIL


def test_client_certificates_are_requested_as_by_prometheus_client(
    registry: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only with ``client_auth_required``, or with ``PROM_CLIENT_CAFILE``."""
    (cert, key), client = make(tmp_path, "server"), make(tmp_path, "client")
    files = {"certfile": str(cert), "keyfile": str(key)}
    roots = {"client_cafile": str(client[0])}
    with serving(registry, **files, **roots) as server:
        assert ask(server.server_port, tls=trusting(cert))[0] == 200
    monkeypatch.setenv("PROM_KEYFILE", str(client[1]))  # belongs to a certificate that is not used
    for options in ({**roots, "client_auth_required": True}, {}):
        if not options:
            monkeypatch.setenv("PROM_CLIENT_CAFILE", roots["client_cafile"])
        with serving(registry, **files, **options) as server:
            assert ask(server.server_port, tls=trusting(cert, client))[0] == 200
            with pytest.raises(OSError, match=r"SSL|reset|pipe|EOF"):
                ask(server.server_port, tls=trusting(cert))


def test_tls_versions_are_set_by_arguments(registry: CollectorRegistry, tmp_path: Path) -> None:
    cert, key = make(tmp_path, "server")
    files = {"certfile": str(cert), "keyfile": str(key)}
    old = trusting(cert)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(registry, **files, tls_max_version=ssl.TLSVersion.TLSv1_2) as server:
        assert ask(server.server_port, tls=old)[0] == 200
    newer = serving(registry, **files, tls_min_version=ssl.TLSVersion.TLSv1_3)
    with newer as server, pytest.raises(ssl.SSLError):
        ask(server.server_port, tls=old)


# Processes -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_scrape_contains_the_totals_of_all_processes(tmp_path: Path) -> None:
    """The parent serves. The totals contain the counts of its children, including dead ones."""
    code = """
        import os, sys, urllib.request, warnings
        from prometheus_client import Counter
        from web_prom import start_http_server

        warnings.filterwarnings("ignore", sys.argv[1], DeprecationWarning)
        jobs = Counter("jobs", "Jobs.")
        server, _ = start_http_server(0, "127.0.0.1")
        jobs.inc()
        for count in (2, 3):
            child = os.fork()
            if not child:
                jobs.inc(count)
                os._exit(0)
            os.waitpid(child, 0)
        print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}").read().decode())
        server.shutdown()
    """
    told = python(code, FORKS, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)).splitlines()
    assert "jobs_total 6.0" in told
    assert "web_prom_workers 1.0" in told


@pytest.mark.filterwarnings(f"ignore:{FORKS}:DeprecationWarning")
def test_forked_child_closes_port_and_connections(registry: CollectorRegistry) -> None:
    """Otherwise a child that outlives its parent would keep the port in use, and nothing would answer."""
    with (
        serving(registry) as server,
        socket.create_connection(("127.0.0.1", server.server_port), PATIENCE_SECONDS) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        ours = {one.fileno() for one in (server._listener, server._wakeup_sender, server._wakeup_receiver)}
        ours |= {one.socket.fileno() for one in server._connections.snapshot()}
        assert len(ours) == 4

        def look() -> None:
            for descriptor in ours:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.fstat(descriptor)
            server.shutdown()
            again, _ = start_http_server(0, "127.0.0.1", registry)
            assert ask(again.server_port)[0] == 200
            again.shutdown()

        in_child(look)
        # The sockets that the child closed are still open in the parent.
        assert ask(server.server_port)[0] == 200


@pytest.mark.filterwarnings(f"ignore:{FORKS}:DeprecationWarning")
def test_forked_child_does_not_wait_for_a_scrape_of_its_parent(registry: CollectorRegistry) -> None:
    """A scrape holds locks of the registry and its metrics for short times. The fork may happen in one."""
    jobs = Counter("jobs", "Jobs.", ["kind"], registry=registry)

    def use() -> None:
        signal.alarm(int(PATIENCE_SECONDS))  # ends a child that would wait forever
        jobs.labels("a").inc()
        Counter("others", "Others.", registry=registry)

    with serving(registry), registry._lock, jobs._lock:
        forking = ThreadPoolExecutor(1)
        forking.submit(in_child, use).result()
        forking.shutdown()


@pytest.mark.slow
def test_server_ends_with_the_program(tmp_path: Path) -> None:
    """A finished script waits neither for its server nor for a connected client."""
    code = """
        import socket
        from web_prom import start_http_server

        server, _ = start_http_server(0, "127.0.0.1")
        client = socket.create_connection(server.server_address)
        print("done")
    """
    assert python(code.replace('print("done")', 'client.detach(); print("done")')) == "done\n"


@pytest.mark.slow
def test_works_with_patches_of_gevent(tmp_path: Path) -> None:
    """Threads are greenlets then, as in a queue worker with greenlets."""
    code = """
        from gevent import monkey
        monkey.patch_all()
        import urllib.request
        from web_prom import start_http_server

        server, _ = start_http_server(0, "127.0.0.1")
        print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}").status)
        server.shutdown()
    """
    assert python(code) == "200\n"
