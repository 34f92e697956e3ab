"""Processes that use prometheus_client without web-prom, and the files that they leave."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.web_prom.multiprocess.reading.value_files import Worker
from tests.web_prom.support import ROOT
from web_prom.multiprocess.file_format import FileName

# No process has this id: Linux has at most four million.
DEAD = 4_194_400


WRITER = """
    import sys
    from prometheus_client import Counter, Gauge, Histogram, Summary
    number = float(sys.argv[1])
    Counter("jobs", "Help.", ["kind"]).labels("a").inc(number)
    Histogram("seconds", "Help.", buckets=(1, 2)).observe(1.5)
    Summary("bytes", "Help.").observe(number)
    for mode in ("all", "sum", "min", "max", "mostrecent", "livesum", "liveall", "livemostrecent"):
        Gauge("gauge_" + mode, "Help.", multiprocess_mode=mode).set(number)
"""


def start(directory: Path, code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process that uses prometheus_client without web-prom."""
    return subprocess.Popen(
        [sys.executable, "-B", "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def write(directory: Path, number: float) -> None:
    """Write values in a process that then exits."""
    with start(directory, WRITER, number) as process:
        process.communicate(timeout=60)
    assert process.returncode == 0


def owners(directory: Path) -> set[str]:
    return {name.owner for path in directory.glob("*.db") if (name := FileName.parse(path.name))}


def dead(directory: Path, number: int = 0) -> Worker:
    """Return a writer for the files of a dead process. The files count as dead when it is closed."""
    return Worker(directory, str(DEAD + number))
