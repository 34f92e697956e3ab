"""web_prom.gunicorn: the directory that the workers share, and its changes at a reload."""

from __future__ import annotations

import os
import re
import shutil
import signal

import pytest

from tests.servers.hooks import IMPORTED, REQUESTS, check_all_workers_are_counted
from tests.servers.process import HOOKS, ROOT, Gunicorn, Scratch, command, run, wait_until
from web_prom.multiprocess.directory.slots import slots_of

pytestmark = pytest.mark.packages

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server as another user")


# `file` is a file: not even root can make a directory below it.
UNUSABLE = "file/below"


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_fault_56_empty_variable_counts_as_absent(place: Scratch, name: str) -> None:
    """Gunicorn sets the variable again in each worker."""
    with Gunicorn(place, f"--env={name}=", workers=1, environ={name: ""}) as server:
        check_all_workers_are_counted(server)
        assert list(place.temporary.glob("*/counter_s*.db"))
    assert not list(place.folder.glob("*.db"))


@pytest.mark.parametrize("way", ["environment", "--env"])
def test_fault_38_lower_case_variable_names_the_directory(place: Scratch, way: str) -> None:
    shared = place.folder / "shared"
    named = {"prometheus_multiproc_dir": str(shared)}
    options = [f"--env=prometheus_multiproc_dir={shared}"] if way == "--env" else []
    with Gunicorn(place, *options, workers=1, environ={} if options else named) as server:
        check_all_workers_are_counted(server)
        owners = {path.stem.rpartition("_")[2] for path in shared.glob("*.db")}
        assert owners
        assert all(owner.startswith("s") for owner in owners)


def test_directory_is_private_and_removed_at_the_end(place: Scratch) -> None:
    """No other user may read or write it."""
    with Gunicorn(place) as server:
        (made,) = place.shared_directories()
        assert made.stat().st_mode & 0o777 == 0o700
        check_all_workers_are_counted(server)
    assert place.shared_directories() == []


@pytest.mark.parametrize("manner", ["environment", "file", "--env", "--env, preloaded"])
def test_unusable_directory_is_an_error_at_start(place: Scratch, manner: str) -> None:
    """The message names the directory, the reason and the remedy, without a traceback."""
    named = f"PROMETHEUS_MULTIPROC_DIR={UNUSABLE}"
    options = ["--env", named] if manner.startswith("--env") else []
    config = place.configuration(IMPORTED) if manner == "file" else HOOKS
    environ = {} if options else {"PROMETHEUS_MULTIPROC_DIR": UNUSABLE}
    if "preloaded" in manner:
        options.append("--preload")
    done = run(place, command(*options, config=config), **environ)
    assert done.returncode == 1
    assert f"Error: PROMETHEUS_MULTIPROC_DIR is '{place.folder / UNUSABLE}'" in done.stderr
    assert "name a directory that all workers can write" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("manner", "preload"),
    [("environment", False), ("--env", False), ("raw_env", False), ("raw_env", True)],
    ids=["environment", "--env", "raw_env", "raw_env, preloaded"],
)
def test_configured_directory_is_used(place: Scratch, manner: str, preload: bool) -> None:
    """Each way to name it works, and no other directory is made.

    raw_env is applied last, so with preload the others are in the environment too when the application is
    imported.
    """
    named = place.folder / "named"
    variable = f"PROMETHEUS_MULTIPROC_DIR={named}"
    options = ["--preload"] if preload else []
    if manner == "--env":
        options += ["--env", variable]
    config = place.configuration(f"{IMPORTED}raw_env = [{variable!r}]") if manner == "raw_env" else HOOKS
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(named)} if manner == "environment" else {}
    with Gunicorn(place, *options, config=config, workers=1, environ=environ) as server:
        assert place.shared_directories() == []
        check_all_workers_are_counted(server)
        workers = set(server.workers())
        wait_until(lambda: workers <= {*slots_of(named).holders().values()}, "the worker to write there")
        server.signal(signal.SIGHUP)
        server.wait_for_boots(2)
        counts = server.value("http_requests_total")
        assert server.get("/")[0] == 200
        wait_until(lambda: server.value("http_requests_total") == counts + 1, "the request to be counted")
        assert place.shared_directories() == []


def test_reload_changes_the_directory(place: Scratch) -> None:
    """New workers write there. A private directory that older workers used is removed at the end."""
    config = place.configuration(IMPORTED)
    with Gunicorn(place, config=config, workers=1) as server:
        check_all_workers_are_counted(server)
        named = place.folder / "named"
        config.write_text(f"{IMPORTED}raw_env = ['PROMETHEUS_MULTIPROC_DIR={named}']")
        server.signal(signal.SIGHUP)
        server.wait_for_boots(2)
        wait_until(lambda: len(server.workers()) == 1, "the older worker to end")
        assert len(place.shared_directories()) == 1
        assert server.get("/")[0] == 200
        wait_until(lambda: server.value("http_requests_total") == 1, "the request to be counted")
        config.write_text(IMPORTED)
        server.signal(signal.SIGHUP)
        server.wait_for_boots(3)
        wait_until(lambda: len(server.workers()) == 1, "the older worker to end")
        assert server.value("http_requests_total") == REQUESTS  # nothing names another: back to the first


def test_reload_with_unusable_directory_keeps_the_former_one(place: Scratch) -> None:
    """A reload must not end a server that serves."""
    config = place.configuration(IMPORTED)
    with Gunicorn(place, config=config, workers=1) as server:
        config.write_text(f"{IMPORTED}raw_env = ['PROMETHEUS_MULTIPROC_DIR={UNUSABLE}']")
        server.signal(signal.SIGHUP)
        server.wait_for_boots(2)
        wait_until(lambda: len(server.workers()) == 1, "the older worker to end")
        (made,) = place.shared_directories()
        assert re.search(rf"\[ERROR\] PROMETHEUS_MULTIPROC_DIR is .*; {made} stays in use", server.log())
        check_all_workers_are_counted(server)


@only_root
@pytest.mark.parametrize("preload", [False, True], ids=["loaded late", "preloaded"])
@pytest.mark.parametrize("named", [False, True], ids=["private", "named"])
def test_workers_of_another_user_can_write(place: Scratch, preload: bool, named: bool) -> None:
    """They own the directory and the files of a preloaded application. An upgrade keeps using them."""
    # The interpreter and this checkout may be where only root can read: what a worker imports later, import
    # now, and have the application where anybody can.
    shutil.copy(ROOT / "tests/servers/apps/flask_app.py", place.folder)
    config = place.configuration(
        f"{IMPORTED}import flask, prometheus_client.multiprocess, prometheus_client.openmetrics.exposition\n"
        "import encodings.idna, mimetypes, uuid, importlib.metadata\n"
        "import web_prom.wsgi, web_prom.exposition.http, flask_prom\n"
    )
    options = ["--user=nobody", "--group=nogroup", *(["--preload"] if preload else [])]
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(place.folder / "named")} if named else {}
    with Gunicorn(place, *options, config=config, app="flask_app:app", workers=1, environ=environ) as server:
        folder = place.folder / "named" if named else place.shared_directories()[0]
        assert folder.owner() == "nobody"
        assert folder.stat().st_mode & 0o777 == 0o700
        check_all_workers_are_counted(server)
        assert {path.owner() for path in folder.glob("*.db")} == {"nobody"}
        server.signal(signal.SIGUSR2)
        server.wait_for_boots(2)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        before = server.value("http_requests_total")
        assert server.get("/")[0] == 200
        wait_until(lambda: server.value("http_requests_total") == before + 1, "the request to be counted")
