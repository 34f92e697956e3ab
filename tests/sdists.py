"""Source distributions of other projects. Tests run them, or parts of their own tests."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

# No test uses these folders. In Django's archive they are more than half of the files.
UNUSED = {"docs", "locale"}


def fetch_sdist(name: str, request: pytest.FixtureRequest, release: str = "") -> Path:
    """Download and unpack the source distribution of a project, without its documentation.

    It is kept in pytest's cache for later runs. Without that cache it is kept for this run. The processes of
    a test run share it. If the archive cannot be downloaded, the test is skipped, or in CI it fails.

    Args:
        name: The name of the project on the package index.
        request: The test, or its fixture.
        release: The release. Empty for the one that is installed.

    Returns:
        The folder that the archive contains.
    """
    requirement = f"{name}=={release or version(name)}"
    target = _folder(request) / requirement
    target.mkdir(parents=True, exist_ok=True)
    with (target / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _unpacked(target):
            _download(requirement, target)
        return _unpacked(target)[0]


def _folder(request: pytest.FixtureRequest) -> Path:
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    if cache is not None:
        return cache.mkdir("sdists")
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    return factory.getbasetemp().parent / "sdists"


def _download(requirement: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target, prefix=".") as folder:
        command = (
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--no-binary", ":all:", "--no-build-isolation", "--dest", folder, requirement),
        )
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(Path(folder).glob("*.tar.gz"))
        if not archives:
            reason = f"the source distribution {requirement} cannot be downloaded: {finished.stderr[-500:]}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        with tarfile.open(archives[0]) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(folder, _used(archive), filter="data")
            else:  # Python before 3.11.4
                archive.extractall(folder, _used(archive))
        # A run that is ended before leaves no incomplete folder.
        for path in _unpacked(Path(folder)):
            path.rename(target / path.name)


def _used(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    return (member for member in archive if UNUSED.isdisjoint(member.name.split("/")))


def _unpacked(target: Path) -> list[Path]:
    return [path for path in target.iterdir() if path.is_dir() and not path.name.startswith(".")]
