"""Imports: their directions, their side effects, and the public names."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import prometheus_client
import pytest

import web_prom
from tests.web_prom.support import ROOT, fresh_python, python

PACKAGES = ("web_prom", "flask_prom", "django_prom")
SERVERS = {"gunicorn", "uvicorn", "hypercorn", "waitress", "uwsgi", "gevent"}
FRAMEWORKS = {
    "flask",
    "werkzeug",
    "jinja2",
    "django",
    "rest_framework",
    "asgiref",
    "starlette",
    "fastapi",
    "quart",
    "litestar",
}
FORBIDDEN = {
    "web_prom": FRAMEWORKS | SERVERS | {"flask_prom", "django_prom"},
    "flask_prom": SERVERS | {"django", "django_prom", "rest_framework"},
    "django_prom": SERVERS | {"flask", "werkzeug", "flask_prom"},
}
# gunicorn reads these as configuration files. They prepare the shared directory.
CONFIGURATION_FILES = {"web_prom.gunicorn"}


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Return all nodes of the syntax tree of a file."""
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


@pytest.fixture(scope="module", autouse=True)
def _forget_nodes() -> Iterator[None]:
    """Keep these tests in one worker, which parses each file once, and free the memory after them."""
    yield
    nodes.cache_clear()


def sources(package: str) -> Iterator[tuple[str, Path]]:
    """Yield the name and the file of each module of a package."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def imported(module: str, path: Path) -> Iterator[str]:
    """Yield the names of all modules that a file imports at any place."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            own = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            base = own[: len(own) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_no_server_and_no_other_framework(package: str) -> None:
    """flask_prom -> web_prom <- django_prom; the core imports no framework and no server."""
    for module, path in sources(package):
        tops = {name.split(".")[0] for name in imported(module, path)}
        assert not tops & FORBIDDEN[package], f"{module} imports {tops & FORBIDDEN[package]}"


# What each folder of "multiprocess" may import: the format of a value file, and how its file is opened.
FILES = {"multiprocess.file_format", "multiprocess.file_entries", "multiprocess.regular_file"}

# The modules and folders of the core that each folder may import, in addition to itself and to ANYWHERE.
ALLOWED = {
    "config": {"metrics.conventions", "metrics.labels"},  # data that settings are checked with
    "metrics": {"config", "multiprocess.writing", "multiprocess.directory", "runtime"},
    "database": {"config", "metrics", "runtime"},
    "decorators": {"config", "metrics", "multiprocess.writing", "runtime"},
    "cache": {"config", "metrics"},
    "exposition": {"config", "metrics", "multiprocess", "runtime"},
    "wsgi": {"config", "metrics", "exposition", "live", "middleware"},
    "asgi": {"config", "metrics", "exposition", "live", "middleware", "multiprocess.writing", "runtime"},
    "multiprocess.directory": FILES,
    "multiprocess.writing": {"multiprocess.directory", "multiprocess.worker_detection", *FILES},
    "multiprocess.reading": {"multiprocess.directory", *FILES},
    "templates": {"metrics"},
    "http_client": {"config", "metrics", "multiprocess.writing"},
    "http_server": {"config", "exposition", "multiprocess.writing"},
    "runtime": {"multiprocess.writing"},
    "upstream": set(),
    "advice": {"metrics.conventions", "metrics.namings"},
    "live": {"advice", "config", "exposition", "metrics", "multiprocess"},
    "dashboards": {
        "cache.conventions",
        "config",
        "database.conventions",
        "http_client.conventions",
        "metrics.conventions",
    },
    "rules": {"advice", "config", "database.conventions", "metrics.conventions"},
    "cli": {
        "advice",
        "config",
        "dashboards",
        "exporter",
        "exposition",
        "http_server",
        "live",
        "multiprocess.directory",
        "rules",
    },
    "exporter": {"config", "exposition", "http_server", "live", "multiprocess.directory"},
}
ANYWHERE = {
    "errors",
    "family_names",
    "gunicorn_types",
    "hooks",
    "import_hook",
    "log_limit",
    "posix",
    "text_format",
    "types",
    "upstream",
    "wrapped_apps",
}


def targets(path: Path) -> Iterator[str]:
    """Yield the modules of the core that a module imports, also for annotations, without `web_prom.`."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("web_prom.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("web_prom"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*whole.split("."))).with_suffix(".py").exists()
                yield (whole if is_module else str(node.module)).removeprefix("web_prom.")


@pytest.mark.parametrize("folder", ALLOWED)
def test_folders_import_only_allowed_folders(folder: str) -> None:
    """Each folder imports only the folders below it in the architecture."""
    modules = sorted((ROOT / "web_prom" / folder.replace(".", "/")).rglob("*.py"))
    assert len(modules) > 2
    mine = {folder, *ALLOWED[folder], *ANYWHERE}
    core = {path.stem for path in (ROOT / "web_prom").iterdir()}
    for path in modules:
        for target in targets(path):
            if target.split(".")[0] in core:
                parts = target.split(".")
                above = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
                assert above & mine, f"{path.relative_to(ROOT)} imports {target}"


def test_modules_have_no_import_circle() -> None:
    """Imports for annotations count too. Packages do not: they only import their public names."""
    graph = {
        module.removeprefix("web_prom."): {
            target
            for target in targets(path)
            if (ROOT / "web_prom" / Path(*target.split("."))).with_suffix(".py").exists()
        }
        for module, path in sources("web_prom")
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_do_not_catch_import_errors(package: str) -> None:
    """An optional dependency has a package of its own, so no module has to try an import."""
    for module, path in sources(package):
        for node in nodes(path):
            if isinstance(node, ast.Try):
                body = [inner for statement in node.body for inner in ast.walk(statement)]
                tried = any(isinstance(inner, ast.Import | ast.ImportFrom) for inner in body)
                caught = {
                    name.id
                    for handler in node.handlers
                    if handler.type is not None
                    for name in ast.walk(handler.type)
                    if isinstance(name, ast.Name)
                }
                assert not (tried and caught & {"ImportError", "ModuleNotFoundError"}), (
                    f"{module}:{node.lineno}"
                )


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_have_modules_and_a_py_typed_file(package: str) -> None:
    assert len(list(sources(package))) >= 3
    assert (ROOT / package / "py.typed").exists()


STARTING = ["os.mkdir", "os.rename", "subprocess.Popen", "os.fork", "socket.bind", "_thread.start_new_thread"]
WATCHED = """
    import asyncio, os, sys  # asyncio reads the environment until Python 3.11
    import prometheus_client
    for framework in {frameworks!r}:
        __import__(framework)

    registered = set(prometheus_client.REGISTRY._collector_to_names)
    read, opened, started = [], [], []
    class Watched(type(os.environ)):
        def __getitem__(self, name):
            read.append(name)
            return super().__getitem__(name)
        def __iter__(self):
            read.append("*")
            return super().__iter__()
    os.environ.__class__ = Watched

    def watch(event, arguments):
        if event == "open" and not str(arguments[0]).endswith((".py", ".pyc", ".so")):
            opened.append(arguments[0])
        elif event in {starting!r}:
            started.append(event)
    sys.addaudithook(watch)

    for module in {modules!r}:
        __import__(module)
    after = set(prometheus_client.REGISTRY._collector_to_names)
    print(dict(registered=len(after - registered), read=read, opened=opened, started=started))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "frameworks"), [("web_prom", []), ("flask_prom", ["flask"])], ids=["web_prom", "flask_prom"]
)
def test_import_has_no_side_effects(package: str, frameworks: list[str]) -> None:
    """No metric is created, no environment read, no file opened, no thread or process started."""
    modules = [module for module, _ in sources(package) if module not in CONFIGURATION_FILES]
    assert len(modules) >= 3
    code = WATCHED.format(frameworks=frameworks, modules=modules, starting=STARTING)
    found = python(code, PROM_PATH="nonsense")
    assert found.strip() == str({"registered": 0, "read": [], "opened": [], "started": []})


LOADED = """
    import sys
    for module in sys.argv[1:]:
        __import__(module)
    print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_import_loads_no_other_framework(package: str) -> None:
    """In a new interpreter, so that no other test has loaded one."""
    if package == "django_prom":
        modules = ["django_prom"]  # its other modules are Django's to load
    else:
        modules = [module for module, _ in sources(package) if module not in CONFIGURATION_FILES]
    loaded = set(fresh_python(LOADED, *modules).split())
    assert package in loaded
    assert not loaded & FORBIDDEN[package]


@pytest.mark.unmeasured
def test_import_of_web_prom_loads_no_other_module() -> None:
    """A worker of type gevent patches the standard library after gunicorn has read its configuration."""
    loaded = set(fresh_python(LOADED, "web_prom").split())
    assert not loaded & {"prometheus_client", "logging", "threading", "socket", "ssl"}


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("module", ["web_prom.wsgi", "web_prom.exporter.run", "flask_prom"])
def test_import_without_asgi_does_not_load_asyncio(module: str) -> None:
    """It takes a tenth of the time that a worker takes to start."""
    assert "asyncio" not in fresh_python(LOADED, module).split()


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("web_prom.__main__", {"importlib.metadata", "prometheus_client", "web_prom.metrics.families"}),
        ("web_prom.exporter.supervisor", {"dataclasses", "inspect", "prometheus_client", "ssl"}),
    ],
)
def test_programs_import_only_what_they_use(module: str, unused: set[str]) -> None:
    """Each server starts them. The supervisor exists as long as the server does."""
    code = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"
    loaded = set(fresh_python(code, module).split())
    assert module in loaded
    assert not loaded & unused


# The public names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", web_prom.__all__)
def test_public_names_have_docstrings(name: str) -> None:
    assert getattr(web_prom, name).__doc__


def test_public_names_equal_all_and_are_sorted() -> None:
    assert set(web_prom.__all__) == set(web_prom._MODULES)
    assert list(web_prom.__all__) == sorted(web_prom.__all__)


def test_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from web_prom import *", names)
    assert set(web_prom.__all__) <= set(names)


def test_version_equals_that_of_setup_cfg() -> None:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    assert web_prom.__version__ == parser["metadata"]["version"]


def test_version_of_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", not_found)
    assert web_prom.__version__ == "0+unknown"


def test_unknown_name_raises_attribute_error() -> None:
    assert not hasattr(web_prom, "no_such_name")
    with pytest.raises(AttributeError, match=r"module 'web_prom' has no attribute 'nothing'"):
        web_prom.nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec("from web_prom import nothing")


def test_modules_have_docstrings() -> None:
    for package in PACKAGES:
        for module, path in sources(package):
            tree = nodes(path)[0]
            assert isinstance(tree, ast.Module)
            assert not tree.body or ast.get_docstring(tree), module


# Private names of prometheus_client ------------------------------------------------------------------

UPSTREAM = Path(prometheus_client.__file__).parent
# Modules whose names prometheus_client or its documentation gives as its own.
PUBLIC_MODULES = {
    "",
    ".exposition",
    ".metrics",
    ".metrics_core",
    ".multiprocess",
    ".parser",
    ".registry",
    ".samples",
}
LOOK_UPS = {"getattr", "setattr", "hasattr", "delattr", "attrgetter"}
# Attributes of other objects that have such a name too.
OWN = {"other._value", "_thread._count", "replaced._file", "slots._states"}


@functools.cache
def private_names(path: Path) -> set[str]:
    """Return the private names that the modules of a package define or set."""
    names: set[str] = set()
    for module in path.rglob("*.py"):
        for node in nodes(module):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def used_attributes(path: Path) -> Iterator[tuple[str, str]]:
    """Give each attribute that a module uses of anything but ``self``, with its source text."""
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in {"self", "cls"}:
            yield node.attr, ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in LOOK_UPS:
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield from ((name, ast.unparse(node)) for name in argument.value.split("."))


@pytest.mark.parametrize("package", PACKAGES)
def test_private_names_of_prometheus_client_are_used_only_in_upstream(package: str) -> None:
    private = private_names(UPSTREAM)
    assert {"_value", "_metrics", "_collector_to_names", "_accumulate_metrics"} <= private
    for module, path in sources(package):
        if module.startswith("web_prom.upstream"):
            continue
        found = {text for name, text in used_attributes(path) if name in private}
        assert not found - OWN, module


@pytest.mark.parametrize("package", PACKAGES)
def test_private_modules_of_prometheus_client_are_imported_only_in_upstream(package: str) -> None:
    for module, path in sources(package):
        if module.startswith("web_prom.upstream"):
            continue
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client"):
                assert (node.module or "").removeprefix("prometheus_client") in PUBLIC_MODULES, module
                names = {alias.name for alias in node.names}
                assert not any(name.startswith("_") for name in names), module
                assert not any((UPSTREAM / f"{name}.py").exists() for name in names), module
