"""``web-prom version``: the versions of web-prom, of Python and of what is installed beside them."""

from __future__ import annotations

import argparse
import json
import sys

HELP = "print the versions of web-prom, of Python and of the frameworks and servers that are installed"
DESCRIPTION = "Print the versions of web-prom, of Python, and of the packages around them that are installed."
EPILOG = "Give these lines with the report of a fault. Exit code: 0."

_PACKAGES = (
    "prometheus-client",
    *("flask", "werkzeug", "django", "djangorestframework", "starlette", "fastapi", "litestar", "quart"),
    *("gunicorn", "uvicorn", "uvicorn-worker", "hypercorn", "granian", "uwsgi", "pyuwsgi", "waitress"),
    *("gevent", "eventlet", "sqlalchemy", "celery", "rq", "rich"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print the versions; return the exit code."""
    found = versions()
    if given.json:
        print(json.dumps(found, indent=2))
        return 0
    width = max(map(len, found))
    for name, text in found.items():
        print(f"{name:<{width}}  {text}")
    return 0


def versions() -> dict[str, str]:
    """Return the versions by name. Packages that are not installed are left out."""
    # Each exporter imports this module, and needs none of these.
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import web_prom

    implementation = f"{platform.python_implementation()} {platform.python_version()}"
    found = {"web-prom": web_prom.__version__, "python": f"{implementation} on {sys.platform}"}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
