"""Shared fixtures, the guard against what tests leave behind, and how the tests are shared out to workers."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures.thread import _worker
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from prometheus_client import REGISTRY, CollectorRegistry, values

from tests import interpreters
from tests.servers.caches import memcached_server, redis_server  # noqa: F401
from tests.servers.databases import mariadb, postgresql  # noqa: F401
from web_prom.runtime.measurements import Measurements
from web_prom.runtime.this_process import measurements

# Tests in these folders start servers and programs, or run for a long time: they are all marked as slow.
_SLOW_FOLDERS = ("benchmarks", "django_suite", "examples", "fuzz", "live_page", "opentelemetry", "servers")

# Tests that use these fixtures are marked as tests of real servers, in whichever folder they are.
_SERVER_FIXTURES = {"browser", "postgresql", "mariadb", "redis_server", "memcached_server"}

# Tests name each series that they expect. Those at 0 have tests of their own (test_zero_errors.py).
os.environ["PROM_ZERO_ERRORS"] = "false"

# An example may take any time on a busy machine.
settings.register_profile("web-prom", deadline=None)
settings.register_profile("web-prom fast", deadline=None, max_examples=20)
settings.load_profile("web-prom")

# The name of this worker of pytest-xdist, or empty.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")

# How long a thread that is about to end may still take; nothing waits that long when all is well.
_GRACE_SECONDS = 30.0


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture(autouse=True)
def _measures_nothing_of_other_tests() -> Iterator[None]:
    """Remove what a test has measured of this process. Stop its applications from counting queries.

    The objects of these applications may still exist in the tests after it.
    """
    yield
    measurements.collections.stop()
    Measurements.__init__(measurements)
    activation = sys.modules.get("web_prom.database.activation")
    query_tally = sys.modules.get("web_prom.metrics.query_tally")
    if activation is not None:
        activation._recorders.clear()
    if query_tally is not None:
        query_tally.current_tally.set(None)


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Fail a test that leaves a thread, a child process or an entry of the default registry behind.

    Higher-scoped fixtures are set up before this one, so what they start is not held against a test.
    """
    threads, children, collectors = _threads(), _children(), set(REGISTRY._collector_to_names)
    yield
    left: list[str] = []
    for thread in _threads() - threads:
        thread.join(_GRACE_SECONDS)
        if thread.is_alive():
            left.append(f"the thread {thread.name}")
    left += [
        f"the child process {pid}" for pid in sorted(_children() - children - interpreters.template_pids())
    ]
    for collector in set(REGISTRY._collector_to_names) - collectors:
        left.append(f"{collector!r} on the default registry")
        REGISTRY.unregister(collector)  # the tests after this one did nothing wrong
    assert not left, "the test left behind: " + ", ".join(left)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import the tests of slow folders for ``make test-fast``, which runs none of them."""
    in_slow_folder = (
        collection_path.parent == config.rootpath / "tests" and collection_path.name in _SLOW_FOLDERS
    )
    return True if in_slow_folder and config.option.markexpr == "not slow" else None


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples for ``make test-fast``. Restore the handler of SIGINT.

    The background jobs of a shell and their children ignore this signal.
    """
    if config.option.markexpr == "not slow":
        settings.load_profile("web-prom fast")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Keep the garbage collector away from the modules and test items, which exist until the end.

    Many tests call :func:`gc.collect`. Otherwise each call would visit these objects, about a million.
    """
    gc.disable()
    collected = yield
    gc.freeze()
    gc.enable()
    return collected


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, pytest.CollectReport]:
    """Let each worker start with other modules of a folder: it reads those that others have compiled.

    Otherwise all workers compile all modules at the same time, when they run for the first time.
    """
    report: pytest.CollectReport = yield
    if isinstance(collector, pytest.Directory) and _WORKER:
        start = len(report.result) * int(_WORKER.lstrip("gw")) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        report.result[:] = report.result[start:] + report.result[:start]
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Keep the processor time of ``--dist loadgroup`` in proportion to the number of tests."""
    if config.option.dist != "loadgroup":
        return None
    from tests.scheduling import Scheduling

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Mark the slow tests, share the tests out to xdist's workers, and start the slow tests first.

    With ``--dist loadgroup`` each test goes to the next free worker on its own. Tests that share a fixture of
    module scope, for example a server, go to one worker together: a group for each value of its parameter.
    """
    if _WORKER:  # all workers need the same order
        items.sort(key=lambda item: item.path)
    folders: dict[Path, str] = {}
    shared: dict[int, tuple[list[str], str]] = {}
    for item in items:
        folder = folders.get(item.path)
        if folder is None:
            folder = folders[item.path] = item.path.relative_to(item.config.rootpath).parts[1]
        starts_server = not _SERVER_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        if folder in _SLOW_FOLDERS or starts_server:
            item.add_marker(pytest.mark.slow)
        if folder == "servers" or starts_server:
            item.add_marker(pytest.mark.servers)
        group = _group(item, shared)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
        if folder != "django_prom":
            _leave_out_unused_fixtures(item)
    yield  # pytest-randomly shuffles the tests
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the template process of :mod:`tests.interpreters`. Check that each group stays in one worker.

    Otherwise each worker would start the servers of a group.
    """
    if getattr(session.config.option, "loadgroup", False):
        groups = ((item, item.get_closest_marker("xdist_group")) for item in session.items)
        assert all(item.nodeid.endswith(f"@{group.args[0]}") for item, group in groups if group)
    starts_programs = any(item.get_closest_marker("slow") for item in session.items)
    if starts_programs and not session.config.option.collectonly:
        interpreters.template.start()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail if the test before left the switch to shared values: its teardown is complete only now."""
    value_class: Any = values.ValueClass
    if getattr(value_class, "_multiprocess", False):
        values.ValueClass = values.MutexValue
        pytest.fail("the test before left the switch to shared values behind")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Add up the programs that the workers of pytest-xdist have started."""
    interpreters.started.update(getattr(node, "workeroutput", {}).get("programs", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many programs were forks. A test does not show that its programs are slow."""
    if interpreters.started:
        counts = [f"{number} as {kind}" for kind, number in sorted(interpreters.started.items())]
        terminalreporter.write_line(f"tests started programs in Python: {', '.join(counts)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, where everything is installed, a test that is skipped is a failure."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["programs"] = dict(interpreters.started)
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _leave_out_unused_fixtures(item: pytest.Item) -> None:
    """Leave out the fixtures of pytest-django that apply to each test, if a test uses nothing of Django's.

    They do nothing there, and take a third of the time that pytest needs for a short test.
    """
    if not isinstance(item, pytest.Function):
        return
    fixtures = item._fixtureinfo.name2fixturedefs
    of_django = {name for name in fixtures if fixtures[name][-1].func.__module__.startswith("pytest_django")}
    unused = {name for name in of_django if name.startswith("_")}
    if of_django - unused <= {"django_test_environment", "django_db_blocker"}:
        item.fixturenames[:] = [name for name in item.fixturenames if name not in unused]


def _group(item: pytest.Item, shared: dict[int, tuple[list[str], str]]) -> str:
    """Return what names the group of a test.

    That is its module and the parameters of its fixtures of module scope. For a test without such a fixture
    it is the names of its fixtures of session scope that these tests define, for example a database server.
    The name is empty for a test that uses neither.

    Args:
        item: The test.
        shared: The names of the fixtures of module scope, and of session scope, by the id of what all tests
            of a function share.
    """
    if not isinstance(item, pytest.Function):
        return ""
    found = shared.get(id(item._fixtureinfo))
    if found is None:
        found = shared[id(item._fixtureinfo)] = _shared_fixtures(item._fixtureinfo.name2fixturedefs)
    of_module, of_session = found
    if not of_module:
        return of_session
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    values_of_module = (str(parameters.get(name, "")) for name in of_module)
    return " ".join(filter(None, [item.module.__name__, *values_of_module]))


def _shared_fixtures(fixtures: Mapping[str, Sequence[pytest.FixtureDef[Any]]]) -> tuple[list[str], str]:
    """Return the names of the fixtures of module scope, and of these tests' fixtures of session scope."""
    of_module, of_session = [], []
    for name, definitions in sorted(fixtures.items()):
        if any(each.scope == "module" for each in definitions):
            of_module.append(name)
        if any(each.scope == "session" and each.func.__module__.startswith("tests.") for each in definitions):
            of_session.append(name)
    return of_module, " ".join(of_session)


def _threads() -> set[threading.Thread]:
    return {
        thread
        for thread in threading.enumerate()
        # The threads of an executor end when it is collected; asgiref and log records can keep one alive.
        if not thread.daemon and getattr(thread, "_target", None) is not _worker
    }


def _children() -> set[int]:
    """Return the ids of this process's children, zombies included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there is none
        return set()
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children", "rb", buffering=0) as children:
                found.update(map(int, children.read().split()))
        except OSError:  # the thread has ended meanwhile
            continue
    return found
