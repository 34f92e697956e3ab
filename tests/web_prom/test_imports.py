"""Nothing happens at import, and imports point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import prometheus_client
import pytest

import web_prom
from tests.web_prom.support import ROOT, python

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
# Read by gunicorn as a configuration file: it prepares the shared directory, and says so.
CONFIGURATION_FILES = {"web_prom.gunicorn"}


def sources(package: str) -> Iterator[tuple[str, Path]]:
    """Give each module of a package by name, with its file."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def imported(module: str, path: Path) -> Iterator[str]:
    """Give the names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            own = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            base = own[: len(own) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    """flask_prom -> web_prom <- django_prom; the core knows no framework and no server."""
    for module, path in sources(package):
        tops = {name.split(".")[0] for name in imported(module, path)}
        assert not tops & FORBIDDEN[package], f"{module} imports {tops & FORBIDDEN[package]}"


# What each folder of "multiprocess" may import: the format of a value file, and how its file is opened.
FILES = {"multiprocess.file_format", "multiprocess.file_entries", "multiprocess.regular_file"}

# What the modules of each folder may import of the core, beside their own folder and what stands in ANYWHERE.
ALLOWED = {
    "config": {"metrics.conventions", "metrics.labels"},  # data alone, which settings are checked by
    "metrics": {"config", "multiprocess.writing", "multiprocess.directory"},
    "exposition": {"config", "metrics", "multiprocess"},
    "wsgi": {"config", "metrics", "exposition", "middleware"},
    "asgi": {"config", "metrics", "exposition", "middleware", "multiprocess.writing"},
    "multiprocess.directory": FILES,
    "multiprocess.writing": {"multiprocess.directory", "multiprocess.worker_detection", *FILES},
    "multiprocess.reading": {"multiprocess.directory", *FILES},
    "http_server": {"config", "exposition", "multiprocess.writing"},
    "runtime": set(),
    "upstream": set(),
    "advice": {"metrics.conventions"},
    "cli": {"advice", "config", "exporter", "multiprocess.directory"},
    "exporter": {"config", "exposition", "http_server", "multiprocess.directory"},
}
ANYWHERE = {
    "errors",
    "gunicorn_types",
    "hooks",
    "log_limit",
    "posix",
    "text_format",
    "types",
    "upstream",
    "wrapped_apps",
}


def targets(path: Path) -> Iterator[str]:
    """Give what a module imports of the core, also for annotations alone, without the name of the core."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("web_prom.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("web_prom"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*whole.split("."))).with_suffix(".py").exists()
                yield (whole if is_module else str(node.module)).removeprefix("web_prom.")


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_between_folders_go_one_way(folder: str) -> None:
    """Folders are the architecture: each imports only what lies below it."""
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


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not for annotations either. Packages are left out: they only name what is public."""
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
def test_no_import_is_tried(package: str) -> None:
    """The package boundary is the optional dependency."""
    for module, path in sources(package):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
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
def test_there_is_something_to_look_at_and_it_is_typed(package: str) -> None:
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


@pytest.mark.parametrize(
    ("package", "frameworks"), [("web_prom", []), ("flask_prom", ["flask"])], ids=["web_prom", "flask_prom"]
)
def test_nothing_happens_at_import(package: str, frameworks: list[str]) -> None:
    """No instrument is made, no environment read, no file opened, no thread or process started."""
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


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_loads_no_other_framework(package: str) -> None:
    """In a fresh interpreter, where nothing else has loaded it either."""
    if package == "django_prom":
        modules = ["django_prom"]  # its other modules are Django's to load
    else:
        modules = [module for module, _ in sources(package) if module not in CONFIGURATION_FILES]
    loaded = set(python(LOADED, *modules).split())
    assert package in loaded
    assert not loaded & FORBIDDEN[package]


def test_importing_the_core_alone_loads_not_even_prometheus_client() -> None:
    """A worker of type gevent patches the standard library after gunicorn has read its configuration."""
    loaded = set(python(LOADED, "web_prom").split())
    assert not loaded & {"prometheus_client", "logging", "threading", "socket", "ssl"}


# The public names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", web_prom.__all__)
def test_each_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(web_prom, name).__doc__


def test_the_public_names_are_those_of_the_table() -> None:
    assert set(web_prom.__all__) == set(web_prom._HOMES)
    assert list(web_prom.__all__) == sorted(web_prom.__all__)


def test_a_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from web_prom import *", names)
    assert set(web_prom.__all__) <= set(names)


def test_any_other_name_is_an_attribute_error() -> None:
    assert not hasattr(web_prom, "no_such_name")
    with pytest.raises(AttributeError, match=r"module 'web_prom' has no attribute 'nothing'"):
        web_prom.nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec("from web_prom import nothing")


def test_every_module_begins_with_a_line_that_says_what_it_owns() -> None:
    for package in PACKAGES:
        for module, path in sources(package):
            text = path.read_text("utf-8")
            if text:
                documentation = ast.get_docstring(ast.parse(text))
                assert documentation, module


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


def private_names(path: Path) -> set[str]:
    """Return the private names that the modules of a package define or set."""
    names: set[str] = set()
    for module in path.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def used_attributes(path: Path) -> Iterator[tuple[str, str]]:
    """Give each attribute that a module uses of anything but ``self``, with its source text."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in {"self", "cls"}:
            yield node.attr, ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in LOOK_UPS:
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield from ((name, ast.unparse(node)) for name in argument.value.split("."))


@pytest.mark.parametrize("package", PACKAGES)
def test_private_names_of_prometheus_client_are_used_in_upstream_alone(package: str) -> None:
    private = private_names(UPSTREAM)
    assert {"_value", "_metrics", "_collector_to_names", "_accumulate_metrics"} <= private
    for module, path in sources(package):
        if module.startswith("web_prom.upstream"):
            continue
        found = {text for name, text in used_attributes(path) if name in private}
        assert not found - OWN, module


@pytest.mark.parametrize("package", PACKAGES)
def test_private_modules_of_prometheus_client_are_imported_in_upstream_alone(package: str) -> None:
    for module, path in sources(package):
        if module.startswith("web_prom.upstream"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client"):
                assert (node.module or "").removeprefix("prometheus_client") in PUBLIC_MODULES, module
                names = {alias.name for alias in node.names}
                assert not any(name.startswith("_") for name in names), module
                assert not any((UPSTREAM / f"{name}.py").exists() for name in names), module
