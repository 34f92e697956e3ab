"""Database queries, connection pools and transactions: families, rules, and the queries of each route.

The names below are imported when they are used for the first time. An import of this package imports no
database library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from web_prom.database.mongo_commands import mongo_listener
    from web_prom.database.sqlalchemy_hooks import instrument, uninstrument
    from web_prom.database.tasks import task

__all__ = ["instrument", "mongo_listener", "task", "uninstrument"]

_MODULES = {
    "instrument": "sqlalchemy_hooks",
    "mongo_listener": "mongo_commands",
    "task": "tasks",
    "uninstrument": "sqlalchemy_hooks",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"web_prom.database.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
