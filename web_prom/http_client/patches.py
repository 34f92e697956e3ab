"""Replacing methods of classes of other packages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any

MakeWrapper = Callable[[Any], Any]
"""Takes a method of a class, and returns the function that replaces it."""

_lock = RLock()
_patched: dict[tuple[type, str], tuple[Any, Any]] = {}


def patch_method(cls: type, name: str, make: MakeWrapper) -> bool:
    """Replace a method, once, and return whether the class defines it. Safe from any thread.

    The replacement has the name, the module and the signature of the method. Further calls change nothing.

    Args:
        cls: The class.
        name: The name of the method. A class that does not define it itself stays as it is.
        make: Returns the replacement.
    """
    with _lock:
        original = cls.__dict__.get(name)
        if original is None:
            return False
        if (cls, name) not in _patched:
            wrapper = wraps(original)(make(original))
            _patched[cls, name] = wrapper, original
            setattr(cls, name, wrapper)
        return True


def restore_methods() -> None:
    """Restore all replaced methods that no other code has replaced. No request may be running."""
    with _lock:
        for (cls, name), (wrapper, original) in list(_patched.items()):
            if cls.__dict__.get(name) is wrapper:
                setattr(cls, name, original)
                del _patched[cls, name]


def drop_frame(error: BaseException) -> None:
    """Remove the frame of the caller from the traceback of an exception that it handles and raises again.

    So the traceback is that of a program that is not measured. Python 3.10 keeps the frame.
    """
    traceback = error.__traceback__
    if traceback is not None and traceback.tb_next is not None:
        error.__traceback__ = traceback.tb_next
