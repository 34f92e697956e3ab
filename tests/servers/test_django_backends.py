"""Django's own tests of its database backends, with ``PROM_DATABASE`` on."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import interpreters
from tests.sdists import fetch_sdist
from tests.servers.databases import DatabaseServer
from tests.web_prom.support import ROOT

APPS = ("backends", "transactions", "transaction_hooks", "db_utils")

# The list of execute wrappers is not empty where a connection is measured.
EXPECTED = {"test_wrapper_connection_specific"}

SETTINGS = """
import atexit
from prometheus_client import REGISTRY

DATABASES = {databases!r}
SECRET_KEY = "tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
PROM_DATABASE = True

@atexit.register
def show():
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name == "db_client_operation_duration_seconds_count":
                print("operations", sample.value)
            if sample.name == "web_prom_instrumentation_errors_total":
                print("errors", sample.value)
"""


@pytest.fixture(scope="module")
def django_tests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the tests of the installed Django, whose projects have django_prom installed."""
    source = fetch_sdist("django", request)
    copy = tmp_path_factory.mktemp("django") / "tests"
    copy.mkdir()
    for name in ("runtests.py", "urls.py", "__init__.py", "templates", "requirements", *APPS):
        path = source / "tests" / name
        if path.is_dir():
            shutil.copytree(path, copy / name)
        elif path.exists():
            shutil.copy(path, copy / name)
    program = (copy / "runtests.py").read_text()
    installed = "ALWAYS_INSTALLED_APPS = ["
    assert installed in program
    (copy / "runtests.py").write_text(program.replace(installed, f'{installed}"django_prom",'))
    return copy


def run_with(folder: Path, labels: Sequence[str], databases: dict[str, Any]) -> str:
    """Run some of the tests, and return what they print."""
    (folder / "measured.py").write_text(SETTINGS.format(databases=databases))
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PROM", "DJANGO"))}
    command = [sys.executable, "runtests.py", "--settings=measured", "--parallel=1", *labels]
    done = interpreters.run(
        command,
        cwd=folder,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    return done.stdout + done.stderr


def check(output: str) -> None:
    """Check that all tests passed but those that are expected to fail, and that queries were measured."""
    assert set(re.findall(r"^(?:FAIL|ERROR): (\w+)", output, re.MULTILINE)) == EXPECTED, output
    found = re.search(r"^Ran (\d+) tests", output, re.MULTILINE)
    assert found, output
    assert int(found[1]) > 200
    assert sum(map(float, re.findall(r"^operations (.*)", output, re.MULTILINE))) > 500
    assert not re.search(r"^errors ", output, re.MULTILINE)


def test_backends_of_sqlite_work_as_before(django_tests: Path) -> None:
    sqlite = {"ENGINE": "django.db.backends.sqlite3"}
    check(run_with(django_tests, APPS, {"default": sqlite, "other": sqlite}))


def test_backends_of_postgresql_work_as_before(django_tests: Path, postgresql: DatabaseServer) -> None:
    databases = {
        "default": postgresql.django(NAME="django_default"),
        "other": postgresql.django(NAME="django_other"),
    }
    # The tests of the other apps take long, and test little of the connection objects.
    labels = ("backends.base", "backends.postgresql", "backends.tests", "transactions")
    check(run_with(django_tests, labels, databases))
