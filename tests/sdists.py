"""Source distributions of other projects. Tests run them, or parts of their own tests."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest


def fetch_sdist(name: str, folder: Path, release: str = "") -> Path:
    """Download and unpack the source distribution of a project, once for each folder.

    The processes of a test run may share the folder. If the archive cannot be downloaded, the test is
    skipped, or in CI it fails.

    Args:
        name: The name of the project on the package index.
        folder: Where to put it.
        release: The release. Empty for the one that is installed.

    Returns:
        The folder that the archive contains.
    """
    requirement = f"{name}=={release or version(name)}"
    target = folder / requirement
    target.mkdir(parents=True, exist_ok=True)
    with (target / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _unpacked(target):
            _download(requirement, target)
        return _unpacked(target)[0]


def _download(requirement: str, target: Path) -> None:
    command = (
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--no-binary", ":all:", "--no-build-isolation", "--dest", str(target), requirement),
    )
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(target.glob("*.tar.gz"))
    if not archives:
        reason = f"the source distribution {requirement} cannot be downloaded: {finished.stderr[-500:]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with tarfile.open(archives[0]) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(target, filter="data")
        else:  # Python before 3.11.4
            archive.extractall(target)


def _unpacked(target: Path) -> list[Path]:
    return [path for path in target.iterdir() if path.is_dir()]
