"""Run the suite on every supported Python of this machine, and with the oldest and newest of each package.

An interpreter counts if it runs, wherever it was found: a name on the PATH may be a stub that only
tells where the real one could be.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import NamedTuple

SUPPORTED = ((3, 10), (3, 11), (3, 12), (3, 13))

# The oldest release of each that setup.cfg admits; Werkzeug has no upper bound in Flask 2.3 but 3.1 broke it.
OLDEST = (
    "prometheus-client==0.20.0",
    "flask==2.3.0",
    "werkzeug<3.1",
    "django==4.2",
    "djangorestframework==3.15.0",
    "gunicorn==21.2.0",
)

# These ask nothing of a Python version or of a package's, and ran under `make test`.
ONCE = (
    "--ignore=tests/examples",
    "--ignore=tests/benchmarks",
    "--ignore=tests/opentelemetry",
    "--ignore=tests/servers/test_mod_wsgi.py",
    "--ignore=tests/test_deploy_docs.py",
    "--ignore=tests/test_deploy_kubernetes.py",
    # Random: it has its time there, and more of it under `make soak`.
    "--ignore=tests/servers/test_chaos.py",
    "--ignore=tests/fuzz",
)
# Real servers take minutes: all run with the oldest packages, the quicker ones with the newest Python.
NO_SERVERS = (*ONCE, "--ignore=tests/servers")
FEW_SERVERS = (
    *ONCE,
    "--ignore=tests/servers/test_truth.py",
    "--ignore=tests/servers/test_deploy.py",
    "--ignore=tests/servers/test_prometheus.py",
    "--ignore=tests/servers/test_soak.py",
    "--ignore=tests/servers/test_asgi_lives.py",
    "--ignore=tests/servers/test_uwsgi.py",
)

# Tests of servers mostly wait: two environments at a time take little more than the longer one alone.
AT_ONCE = 2

# Two installations at once would write to one egg-info.
_installing = Lock()


class Combination(NamedTuple):
    """A Python, what is installed in which versions, and the tests that are left out."""

    python: str
    name: str
    packages: tuple[str, ...]
    left_out: tuple[str, ...]


def main() -> int:
    """Run all combinations; return the exit code."""
    found = interpreters()
    print(
        "interpreters:",
        ", ".join(f"{version[0]}.{version[1]} {path}" for version, path in found.items()),
        flush=True,
    )
    version, python = min(found.items())
    # The longest first.
    chosen = [
        Combination(python, f"Python {version[0]}.{version[1]}, oldest packages", (".[test]", *OLDEST), ONCE)
    ]
    for version, python in sorted(found.items(), reverse=True):
        if version == sys.version_info[:2] != max(found):
            continue  # `make test` ran everything with it a moment ago
        left_out = FEW_SERVERS if version == max(found) else NO_SERVERS
        name = f"Python {version[0]}.{version[1]}, newest packages"
        chosen.append(Combination(python, name, (".[test,quart]",), left_out))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(run, chosen))
    print("\nversion matrix:")
    for combination, (passed, seconds) in zip(chosen, results, strict=True):
        print(f"  {'passed' if passed else 'FAILED'}  {combination.name}  ({seconds:.0f} s)")
    return 0 if all(passed for passed, _ in results) else 1


def interpreters() -> dict[tuple[int, int], str]:
    """Return the supported interpreters that run on this machine, oldest first."""
    names = [f"python{major}.{minor}" for major, minor in SUPPORTED]
    candidates = [sys.executable, "python3", *names]
    for folder in (os.environ.get("PYENV_ROOT"), os.path.expanduser("~/.pyenv"), "/opt/pyenv"):
        if folder:
            candidates += sorted(glob.glob(f"{folder}/versions/*/bin/python3"))
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/python*/bin"):
        candidates += [path for name in names for path in glob.glob(f"{folder}/{name}")]
    found: dict[tuple[int, int], str] = {}
    for candidate in candidates:
        version = version_of(candidate)
        if version in SUPPORTED and version not in found:
            found[version] = candidate
    return dict(sorted(found.items()))


def version_of(python: str) -> tuple[int, int] | None:
    """Return the version that an interpreter tells, or None if it does not run or has no venv."""
    code = "import ensurepip, venv, sys; print(*sys.version_info[:2])"
    try:
        told = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor = told.stdout.split()
    return int(major), int(minor)


def run(combination: Combination) -> tuple[bool, float]:
    """Run the suite in an environment of its own; tell whether it passed, and after how long."""
    begun = time.monotonic()
    # What an old Django cannot do is skipped there; in CI proper a skipped test is a failure.
    environ = {name: value for name, value in os.environ.items() if name != "CI"}
    with (
        tempfile.TemporaryDirectory(prefix="web-prom-matrix-") as folder,
        tempfile.TemporaryFile("w+", errors="replace") as told,
    ):
        inside = str(Path(folder, "venv", "bin", "python"))

        def done(*command: str) -> bool:
            return subprocess.run(command, env=environ, stdout=told, stderr=told, check=False).returncode == 0

        with _installing:
            passed = done(combination.python, "-m", "venv", str(Path(folder, "venv"))) and done(
                inside, "-m", "pip", "install", "--quiet", "--editable", *combination.packages
            )
        passed = passed and done(
            inside, "-m", "pytest", "-q", "-p", "no:cacheprovider", *combination.left_out
        )
        told.seek(0)
        print(f"\n--- {combination.name}\n{told.read()}", flush=True)
    return passed, time.monotonic() - begun


if __name__ == "__main__":
    sys.exit(main())
