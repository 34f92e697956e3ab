"""Operations of caches: how many, how long, hits, misses and errors.

The names below are imported when they are used for the first time. An import of this package imports no
cache library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from web_prom.cache.flask_caching import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("web_prom.cache.flask_caching"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
