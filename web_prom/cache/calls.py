"""The rules for what came of a call of an operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from web_prom.cache.conventions import Result
from web_prom.cache.recorder import Target
from web_prom.cache.running import Call

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and the keyword arguments of a method. The first one is the cache."""

SEQUENCES = frozenset({list, tuple})
"""The usual types of many keys."""


# Rules that need to know nothing but the value or the exception.


class Rule:
    """What came of an operation: ``ok`` or ``error``."""

    def result(self, value: Any) -> Result:
        """Return what came of an operation that returned a value."""
        return "ok"

    def failure(self, error: BaseException) -> Result:
        """Return what came of an operation that raised an exception."""
        return "error"


class GetValue(Rule):
    """The value of one key, or None. There is no other default."""

    def result(self, value: Any) -> Result:
        """Count None as a miss."""
        return "miss" if value is None else "hit"


class Set(Rule):
    """A value is stored. The operation returns False if the backend has an error."""

    def result(self, value: Any) -> Result:
        """Count False as an error."""
        return "error" if value is False else "ok"


class HasKey(Rule):
    """The operation returns whether a key is in the cache."""

    def result(self, value: Any) -> Result:
        """Use the answer."""
        return "hit" if value else "miss"


class Touch(Rule):
    """A key is changed if it is in the cache. The operation returns whether it is."""

    def result(self, value: Any) -> Result:
        """Count a key that is not in the cache as a miss."""
        return "ok" if value else "miss"


class Change(Rule):
    """The value of a key is changed. If the key is not in the cache, the operation raises ``ValueError``."""

    def failure(self, error: BaseException) -> Result:
        """Count a key that is not in the cache as a miss."""
        return "miss" if type(error) is ValueError else "error"


class SetMany(Rule):
    """Many values are stored. The operation returns the keys that could not be stored."""

    def result(self, value: Any) -> Result:
        """Count one error if a key could not be stored."""
        return "error" if isinstance(value, list) and value else "ok"


# Rules that need to know more about the call.


class CallRule:
    """What came of an operation. It depends on the arguments, or on the operations inside."""

    finds_keys = False
    """Whether the operation tells an operation around it that a key was found."""

    def found(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> bool:
        """Tell whether a key was found by an operation that returned a value."""
        raise NotImplementedError

    def prepare(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Return the arguments for the backend. They mean the same as those of the caller."""
        return args, kwargs

    def result(self, call: Call, value: Any) -> Result:
        """Return what came of an operation that returned a value."""
        return "ok"

    def failure(self, call: Call, error: BaseException) -> Result:
        """Return what came of an operation that raised an exception."""
        return "error"

    def observe(self, target: Target, operation: str, call: Call, value: Any, seconds: float) -> None:
        """Write an operation that returned a value."""
        target.observe(operation, self.result(call, value), seconds)


class Get(CallRule):
    """The value of one key, or a default: ``get(key, default)``."""

    finds_keys = True

    def found(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> bool:
        """Compare the value with the default."""
        return value is not _default_of(args, kwargs)

    def prepare(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Keep the default."""
        call.default = _default_of(args, kwargs)
        return args, kwargs

    def result(self, call: Call, value: Any) -> Result:
        """Ask the ``get`` inside the operation. If there was none, compare with the default."""
        found = value is not call.default if call.found is None else call.found_any
        return "hit" if found else "miss"


class GetMany(CallRule):
    """The values of many keys: a mapping of those that are in the cache.

    Each key is a hit or a miss. The operation has one duration. A ``get`` may be a ``get_many`` of one key.
    """

    finds_keys = True

    def found(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> bool:
        """Tell whether a key is in the mapping."""
        return bool(value)

    def prepare(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Keep the keys. The keys of an iterator are kept when the backend takes them."""
        keys = args[1] if len(args) > 1 else kwargs.get("keys")
        given, call.keys = record_keys(keys)
        if given is keys:
            return args, kwargs
        if len(args) > 1:
            return (args[0], given, *args[2:]), kwargs
        return args, {**kwargs, "keys": given}

    def observe(self, target: Target, operation: str, call: Call, value: Any, seconds: float) -> None:
        """Count the keys."""
        hits, keys = len(value), call.keys
        misses = 0 if type(keys) in SEQUENCES and hits == len(keys) else len(set(keys)) - hits
        target.observe_keys(operation, hits, misses, seconds)


class GetValues(CallRule):
    """The values of many keys, a list or a dictionary, with None for a key that is not in the cache.

    The keys are the arguments. A key that is given twice is twice in a list.
    """

    def prepare(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Keep the keys."""
        call.keys = args[1:]
        return args, kwargs

    def observe(self, target: Target, operation: str, call: Call, value: Any, seconds: float) -> None:
        """Count the keys."""
        values = (value if isinstance(value, dict) else dict(zip(call.keys, value, strict=False))).values()
        misses = sum(each is None for each in values)
        target.observe_keys(operation, len(values) - misses, misses, seconds)


class GetOrSet(CallRule):
    """The value of one key, which is stored if it was not in the cache."""

    def prepare(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Let operations in the user's function count as operations of their own."""
        default = _default_of(args, kwargs)
        outside = call.outside(default) if callable(default) else default
        if outside is default:
            return args, kwargs
        if len(args) > 2:
            return (*args[:2], outside, *args[3:]), kwargs
        return args, {**kwargs, "default": outside}

    def result(self, call: Call, value: Any) -> Result:
        """Use what the ``get`` inside found."""
        call.raised = None  # its traceback refers to the call
        return "ok" if call.found is None else "hit" if call.found else "miss"

    def failure(self, call: Call, error: BaseException) -> Result:
        """Count no error of the user's function as one of the cache."""
        of_user, call.raised = call.raised is error, None
        return "miss" if of_user else "error"


def record_keys(keys: Any) -> tuple[Any, Any]:
    """Return the keys for the backend, and the keys to count when it has taken them."""
    # A backend may ask for the length of what has one, and what has one can be read twice.
    if type(keys) in SEQUENCES or hasattr(type(keys), "__len__") or not hasattr(type(keys), "__iter__"):
        return keys, keys
    recorded: list[Any] = []
    return _record_keys(keys, recorded), recorded


def _default_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[2] if len(args) > 2 else kwargs.get("default")


def _record_keys(keys: Any, recorded: list[Any]) -> Iterator[Any]:
    for key in keys:
        recorded.append(key)
        yield key
