"""The distribution: its files, its requirements, and an installed wheel."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

# Python 3.10 has no tomllib; pytest requires tomli there.
tomllib: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("web_prom", "flask_prom", "django_prom")

# Files of tools, servers and builds in a work tree.
_LEFT = shutil.ignore_patterns(
    ".git", ".venv*", "*.egg-info", "build", "dist", "__pycache__", ".*_cache", ".hypothesis", ".coverage*"
)


def call(*command: str, cwd: Path, **environ: str) -> str:
    """Run a program that must succeed, without the variables that configure Python and web-prom."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PROM"))}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **environ}, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project without files of tools, with a package that no wheel may have."""
    source = tmp_path_factory.mktemp("source") / "web-prom"
    shutil.copytree(ROOT, source, ignore=_LEFT, copy_function=shutil.copyfile)
    # A wheel with more than the packages would have it, too.
    (source / "build_helpers").mkdir()
    (source / "build_helpers" / "__init__.py").touch()
    return source


# An sdist of this directory, and a wheel of the sdist, as ``python -m build`` makes them, but in one process.
BUILD = """
import os, tarfile
from setuptools import build_meta
dist = os.path.abspath("dist")
sdist = build_meta.build_sdist(dist)
with tarfile.open(os.path.join(dist, sdist)) as archive:
    archive.extractall("../unpacked")
os.chdir("../unpacked/" + sdist.removesuffix(".tar.gz"))
build_meta.build_wheel(dist)
"""


@pytest.fixture(scope="module")
def built(source: Path) -> Path:
    """Return a directory with the sdist, and the wheel that was built from it."""
    call(sys.executable, "-c", BUILD, cwd=source)
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """Return the wheel."""
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist_names(built: Path) -> set[str]:
    """Return the names of the files in the sdist."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode("utf-8"))


def test_wheel_has_all_modules_of_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert wheel.name.endswith("-py3-none-any.whl")


def test_sdist_has_all_files_of_the_project_and_nothing_else(source: Path, sdist_names: set[str]) -> None:
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    files -= {"build_helpers/__init__.py", *(name for name in files if is_generated(name))}
    generated = {"PKG-INFO", *(name for name in sdist_names if name.startswith("web_prom.egg-info/"))}
    assert sdist_names - generated == files


def test_fault_78_sdist_has_what_its_documents_link_to(sdist_names: set[str]) -> None:
    links = re.findall(r"`[^`<]+ <((?!https?:)[^>`]+)>`_", (ROOT / "README.rst").read_text("utf-8"))
    linked = {link.partition("#")[0] for link in links} - {""}
    assert "gunicorn.conf.py" in linked
    assert linked <= sdist_names


def test_repository_has_no_generated_file() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a git repository")
    names = call("git", "ls-files", cwd=ROOT).splitlines()
    assert "web_prom/__init__.py" in names
    assert [name for name in names if is_generated(name)] == []


def is_generated(name: str) -> bool:
    """Return whether a tool makes the file of this name."""
    path = PurePosixPath(name)
    return (
        not {"build", "dist", "__pycache__", "_build"}.isdisjoint(path.parts)
        or any(part.endswith((".egg-info", "_cache")) for part in path.parts)
        or path.suffix in {".pyc", ".pyo", ".db", ".log", ".sqlite3"}
        or path.name.startswith(".coverage")
    )


def test_metadata_names_what_is_supported(wheel: Path) -> None:
    metadata = metadata_of(wheel)
    assert metadata["Name"] == "web-prom"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", metadata["Version"])
    assert metadata["Requires-Python"] == ">=3.10"
    assert "MIT" in (metadata["License-Expression"], metadata["License"])
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Description-Content-Type"] == "text/x-rst"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert {"flask", "django", "gunicorn", "test"} <= set(metadata.get_all("Provides-Extra", []))


def test_metadata_requires_only_prometheus_client(wheel: Path) -> None:
    required = metadata_of(wheel).get_all("Requires-Dist", [])
    always = [line for line in required if "extra ==" not in line]
    assert len(always) == 1
    assert re.fullmatch(
        r"prometheus-client\s*(<1,>=0\.20|>=0\.20,<1)", always[0].replace("(", "").replace(")", "")
    )
    by_extra = {line.rpartition("extra == ")[2].strip("\"'"): line for line in required if "extra ==" in line}
    assert by_extra["flask"].startswith("flask>=2.3")
    assert by_extra["django"].startswith("django>=4.2")
    assert by_extra["gunicorn"].startswith("gunicorn>=21.2")


INSTALLED = """
import sys
from pathlib import Path, PurePosixPath
root = Path(sys.argv[1])
import web_prom, flask_prom, django_prom
for package in (web_prom, flask_prom, django_prom):
    assert Path(package.__file__).is_relative_to(root), package.__file__
    assert (Path(package.__file__).parent / "py.typed").is_file()
from wsgiref.util import setup_testing_defaults
from flask import Flask
from prometheus_client import CollectorRegistry
app = Flask("shop")
registry = CollectorRegistry()
flask_prom.FlaskProm(app, registry=registry)
environ = {}
setup_testing_defaults(environ)
body = app.wsgi_app(environ, lambda *_: None)
list(body)
body.close()
labels = dict(method="GET", route="_unmatched", status="404")
assert registry.get_sample_value("http_requests_total", labels) == 1
from importlib.metadata import version
print(version("web-prom"))
"""


def test_wheel_works_when_installed(wheel: Path, tmp_path: Path) -> None:
    """The test imports the installed copy instead of the work tree."""
    target = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    options = ("--no-compile", "--no-deps", "--no-index", "--target", str(target))
    call(*pip, "install", *options, str(wheel), cwd=tmp_path)
    printed = call(
        sys.executable, "-W", "error", "-c", INSTALLED, str(target), cwd=tmp_path, PYTHONPATH=str(target)
    )
    assert printed.strip() == metadata_of(wheel)["Version"]


# Where settings are ---------------------------------------------------------------------------------------


@pytest.fixture
def pyproject() -> dict[str, Any]:
    """Return pyproject.toml."""
    tables: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return tables


@pytest.fixture
def setup_cfg() -> configparser.ConfigParser:
    """Return setup.cfg."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string((ROOT / "setup.cfg").read_text("utf-8"))
    return parser


def test_setup_cfg_has_the_metadata_and_pyproject_the_tools(
    pyproject: dict[str, Any], setup_cfg: configparser.ConfigParser
) -> None:
    """setuptools, pytest and tox each prefer another file when both have a setting."""
    assert set(pyproject) == {"build-system", "tool"}, "no [project]: the metadata is in setup.cfg"
    assert "setuptools" not in pyproject["tool"]
    for section in setup_cfg.sections():
        assert section == "metadata" or section.partition(".")[0] == "options", (
            f"[{section}] belongs in pyproject.toml"
        )


def test_no_other_file_configures_the_build_or_a_tool() -> None:
    """MANIFEST.in says what the source distribution holds beside the packages: setup.cfg cannot."""
    others = (
        "setup.py",
        "tox.ini",
        "pytest.ini",
        ".pytest.ini",
        "mypy.ini",
        "ruff.toml",
        ".ruff.toml",
        ".flake8",
    )
    assert [name for name in others if (ROOT / name).exists()] == []


def test_setup_cfg_lists_every_package(setup_cfg: configparser.ConfigParser) -> None:
    listed = set(setup_cfg["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert found <= listed
    assert all((ROOT / name.replace(".", "/")).is_dir() for name in listed)


def test_setup_cfg_declares_the_supported_pythons(
    setup_cfg: configparser.ConfigParser,
) -> None:
    classifiers = setup_cfg["metadata"]["classifiers"].splitlines()
    versions = [line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)]
    assert versions == ["3.10", "3.11", "3.12", "3.13"]
    assert setup_cfg["options"]["python_requires"] == ">=3.10"


def test_pre_commit_hooks_are_local_and_call_makefile_targets() -> None:
    configured = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert [repo["repo"] for repo in configured["repos"]] == ["local"]
    for hook in configured["repos"][0]["hooks"]:
        program, target = hook["entry"].split()
        assert program == "make"
        assert target in targets
