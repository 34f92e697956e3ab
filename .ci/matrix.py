"""Run what depends on versions: on each supported Python, and with the oldest release of each package.

`make test` runs every test on one Python. `make coverage` runs the tests of single units, and those tests of
real servers that depend on versions, on the newest Python. This matrix runs the same tests on the oldest
Python, with the oldest packages. On a Python in between it runs the fast tests of single units, and those
tests of real servers that depend on versions. It leaves out an interpreter that the machine does not have.

Other uses: `--newest` prints the newest interpreter, `--ignored` the arguments for pytest that leave out the
tests that depend on no version, and `--install PYTHON REQUIREMENT ...` installs into an environment.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

SUPPORTED = ((3, 10), (3, 11), (3, 12), (3, 13))

# The oldest release of each package that setup.cfg admits. Flask 2.3 has no upper bound for Werkzeug, but
# Werkzeug 3.1 breaks it.
OLDEST = (
    "prometheus-client==0.20.0",
    "flask==2.3.0",
    "werkzeug<3.1",
    "django==4.2",
    "djangorestframework==3.15.0",
    "gunicorn==21.2.0",
    "sqlalchemy==2.0.16",
    "flask-sqlalchemy==3.1.0",
)

# These tests depend on no version, or are random: `make test` runs them once.
ONCE = (
    "--ignore=tests/benchmarks",
    "--ignore=tests/django_suite",
    "--ignore=tests/examples",
    "--ignore=tests/fuzz",
    "--ignore=tests/live_page",
    "--ignore=tests/migration",
    "--ignore=tests/opentelemetry",
    "--ignore=tests/test_deploy_docs.py",
    "--ignore=tests/test_deploy_kubernetes.py",
    "--ignore=tests/test_packaging.py",
    "--ignore=tests/test_saturation_docs.py",
)
# The markers are explained in pyproject.toml.
OLDEST_TESTS = (*ONCE, "-m", "(not servers or versions or packages) and not once")
IN_BETWEEN_TESTS = (*ONCE, "-m", "(not slow or versions) and not once")


# A test that fails is tried once more, and listed. Of 6,000 tests, many of processes and sockets,
# one in a run fails by chance on a busy machine. A test that fails twice fails the row.
RERUNS = ("-p", "rerunfailures", "--reruns", "1", "-rR")


class Row(NamedTuple):
    """One row of the matrix.

    Attributes:
        python: The interpreter.
        name: What the report calls it.
        packages: What pip installs.
        tests: Which tests run, as arguments for pytest.
        skips: Whether a test may be skipped because an old package lacks what it tests.
    """

    python: str
    name: str
    packages: tuple[str, ...]
    tests: tuple[str, ...]
    skips: bool


def main() -> int:
    """Run all rows; return the exit code."""
    if sys.argv[1:2] == ["--install"]:
        install(sys.argv[2], sys.argv[3:])
        return 0
    if sys.argv[1:] == ["--ignored"]:
        print(*ONCE)
        return 0
    found = interpreters()
    if sys.argv[1:] == ["--newest"]:
        print(found[max(found)])
        return 0
    print(
        "interpreters:", ", ".join(f"{name(version)} {path}" for version, path in found.items()), flush=True
    )
    oldest = min(found)
    rows = [Row(found[oldest], f"{name(oldest)}, oldest packages", (".[test]", *OLDEST), OLDEST_TESTS, True)]
    for version in sorted(set(found) - {oldest, max(found), sys.version_info[:2]}, reverse=True):
        label = f"{name(version)}, newest packages"
        rows.append(Row(found[version], label, (".[test,quart]",), IN_BETWEEN_TESTS, False))
    results = run_all(rows)
    print("\nversion matrix:")
    for row, (passed, seconds) in zip(rows, results, strict=True):
        print(f"  {'passed' if passed else 'FAILED'}  {row.name}  ({seconds:.0f} s)")
    return 0 if all(passed for passed, _ in results) else 1


def name(version: tuple[int, int]) -> str:
    """Return the name of a Python version."""
    return f"Python {version[0]}.{version[1]}"


def interpreters() -> dict[tuple[int, int], str]:
    """Return the supported interpreters that run on this machine, oldest first.

    An interpreter is run before it counts: a name on the PATH can be a stub of pyenv without an interpreter.
    """
    names = [f"python{major}.{minor}" for major, minor in SUPPORTED]
    candidates = [sys.executable, "python3", *names]
    for folder in (os.environ.get("PYENV_ROOT"), os.path.expanduser("~/.pyenv"), "/opt/pyenv"):
        if folder:
            candidates += sorted(glob.glob(f"{folder}/versions/*/bin/python3"))
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/python*/bin"):
        candidates += [path for each in names for path in glob.glob(f"{folder}/{each}")]
    found: dict[tuple[int, int], str] = {}
    for candidate in candidates:
        version = version_of(candidate)
        if version in SUPPORTED and version not in found:
            found[version] = candidate
    return dict(sorted(found.items()))


def version_of(python: str) -> tuple[int, int] | None:
    """Return the version that an interpreter prints, or None if it does not run or has no venv."""
    code = "import ensurepip, venv, sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor = done.stdout.split()
    return int(major), int(minor)


def run_all(rows: list[Row]) -> list[tuple[bool, float]]:
    """Run the rows one after the other; return whether each passed, and the seconds that its tests took.

    The environment of the next row is made while the tests of a row run. One is made at a time: each
    installation writes the same egg-info.
    """
    with tempfile.TemporaryDirectory(prefix="web-prom-matrix-") as folder, ThreadPoolExecutor(1) as installer:
        environments = [
            installer.submit(make_environment, row, Path(folder, str(number)))
            for number, row in enumerate(rows)
        ]
        return [run(row, environment) for row, environment in zip(rows, environments, strict=True)]


def make_environment(row: Row, folder: Path) -> str:
    """Make the virtual environment of a row; return its interpreter.

    Raises:
        subprocess.CalledProcessError: It could not be made.
    """
    subprocess.run([row.python, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    install(python, ["--editable", *row.packages])
    return python


def install(python: str, requirements: list[str]) -> None:
    """Install into the environment of an interpreter: with uv, and with pip where uv is missing or fails.

    uv takes a tenth of pip's time. It does not read pip's configuration and may find no index.

    Raises:
        subprocess.CalledProcessError: pip failed, too.
    """
    # As in the Makefile: the project's folder becomes a line of sys.path.
    editable = ["--config-settings", "editable_mode=compat"]
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    certificates = {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}
    done = subprocess.run([*uv, *editable, *requirements], env={**os.environ, **certificates}, check=False)
    if done.returncode:
        print("uv failed; pip installs instead", flush=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *editable, *requirements], check=True)


def run(row: Row, environment: Future[str]) -> tuple[bool, float]:
    """Run the tests of a row; return whether they passed, and the seconds that they took."""
    print(f"\n--- {row.name}", flush=True)
    try:
        python = environment.result()
    except subprocess.CalledProcessError as error:
        print(error, flush=True)
        return False, 0.0
    begun = time.monotonic()
    # With CI in the environment a skipped test is a failure.
    environ = {key: value for key, value in os.environ.items() if key != "CI" or not row.skips}
    environ["FRESH_INTERPRETERS"] = "1"  # `make test` forks the programs of tests from a template process
    jobs = os.environ.get("JOBS") or str((os.cpu_count() or 2) + 3)
    # The servers of tests write no .pyc files.
    compiled = ("web_prom", "flask_prom", "django_prom", "examples", "tests")
    subprocess.run([python, "-m", "compileall", "-q", *compiled], check=True)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", jobs, "--dist", "loadgroup"]
    done = subprocess.run([*command, *RERUNS, *row.tests], env=environ, check=False)
    return done.returncode == 0, time.monotonic() - begun


if __name__ == "__main__":
    sys.exit(main())
