"""Runs test files of another library, with a plugin that puts web-prom in the library's place."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from tests import interpreters

ROOT = Path(__file__).parents[2]


def run_tests(
    files: Sequence[Path], plugins: Sequence[str], report: Path, names: Sequence[str] = ()
) -> dict[str, str]:
    """Run test files in a process of their own.

    Args:
        files: The files.
        plugins: The modules with plugins.
        report: Where pytest writes its report.
        names: The tests to run; all if empty.

    Returns:
        ``passed``, or the first line of the failure or of the reason to skip, by the class and the name of
        each test.
    """
    finished = interpreters.run(
        (
            *(sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", f"--rootdir={files[0].parent}"),
            *(part for name in plugins for part in ("-p", f"tests.migration.plugins.{name}")),
            *("-p", "no:cacheprovider", "--tb=native", f"--junitxml={report}", *map(str, files)),
            *("-k", " or ".join(names)),
        ),
        cwd=files[0].parents[1],
        env={**_environ(), "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), finished.stdout + finished.stderr
    return {
        f"{case.get('classname', '').rsplit('.', 1)[-1]}.{case.get('name')}": _outcome(case)
        for case in ET.parse(report).iter("testcase")
    }


def _environ() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("PROM", "PYTEST"))}


def _outcome(case: ET.Element) -> str:
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            return (found.get("message") or kind).splitlines()[0]
    return "passed"
