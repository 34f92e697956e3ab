"""The machine and the versions of a benchmark."""

from __future__ import annotations

import os
import platform
import textwrap
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe(*distributions: str) -> str:
    """Return the machine, Python and the versions of distributions, in a few lines."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    installed = ", ".join(f"{name} {_version(name)}" for name in distributions)
    machine = f"{_processor()}, {cores} cores, {platform.system()} {platform.release()}, {python}"
    return "\n".join([machine, *textwrap.wrap(installed, 105, break_on_hyphens=False)])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
