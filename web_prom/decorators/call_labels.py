"""The label values of decorated calls: constants, and functions of the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from web_prom.decorators.framework_requests import find_request, find_response
from web_prom.errors import ConfigError
from web_prom.metrics.labels import EMPTY, clean_label_value

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]

MISSING: Any = object()
"""The result of a call that raised, and an argument that the caller did not pass."""

CallFunction = Callable[[Arguments, Keywords, Any, "BaseException | None"], Any]
"""Returns something about a call: from its arguments, its result (or MISSING) and its error (or None)."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OUTCOMES = ("result", "error", "response")


class Signature(NamedTuple):
    """The parameters of a decorated function, and which parts of a call its labels may use.

    Attributes:
        owner: The name of the function, for messages.
        parameters: Its parameters by name.
        has_ended: Whether labels are computed at the end of a call. If not, there is no result.
    """

    owner: str
    parameters: Mapping[str, inspect.Parameter]
    has_ended: bool = True


@dataclass(frozen=True)
class _PositionalArgument:
    """Returns an argument that the caller may pass by position or by name.

    Attributes:
        index: Its position.
        name: Its name.
        default: Its default, or MISSING.
    """

    index: int
    name: str
    default: Any

    def __call__(self, args: Arguments, kwargs: Keywords, result: Any, error: BaseException | None) -> Any:
        return args[self.index] if self.index < len(args) else kwargs.get(self.name, self.default)


def signature_of(function: Callable[..., Any], *, has_ended: bool = True) -> Signature:
    """Return the signature of a function. That of some built-in functions is not known, and empty."""
    try:
        # A partial function whose arguments are bound can pretend to be the function that it calls.
        follow_wrapped = not isinstance(function, partial)
        parameters = inspect.signature(function, follow_wrapped=follow_wrapped).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    return Signature(getattr(function, "__qualname__", repr(function)), parameters, has_ended)


def compile_labels(
    labels: Mapping[str, object], signature: Signature, on_error: Callable[[str], None]
) -> CallFunction:
    """Return the function that returns the label values of a call, as a tuple of strings. It never raises.

    The values may have control characters. ``clean_label_value`` removes these.

    Args:
        labels: A constant, or a function of the call, for each label name.
        signature: The signature of the decorated function.
        on_error: Called with ``label NAME`` in the ``except`` block of an error of a label's function.

    Raises:
        ConfigError: A label's function has a parameter that is not known.
    """
    if not any(map(callable, labels.values())):
        constants = tuple(map(clean_label_value, labels.values()))
        return lambda *_: constants
    getters = [_compile_label(name, value, signature, on_error) for name, value in labels.items()]
    # For one or two labels without a list, because that takes longer.
    if len(getters) == 1:
        (only,) = getters
        return lambda args, kwargs, result, error: (only(args, kwargs, result, error),)
    if len(getters) == 2:
        first, second = getters
        return lambda args, kwargs, result, error: (
            first(args, kwargs, result, error),
            second(args, kwargs, result, error),
        )
    return lambda *call: tuple([getter(*call) for getter in getters])


def compile_function(name: str, function: Callable[..., Any], signature: Signature) -> CallFunction:
    """Return a function of a call that passes what the parameters of ``function`` name.

    A parameter may have the name of a parameter of the decorated function, or be ``result``, ``error``,
    ``request`` or ``response``. The returned function returns MISSING if a part does not exist and has no
    default, for example the result of a call that raised.

    Args:
        name: The name of the label, for messages.
        function: The function of the user.
        signature: The signature of the decorated function.

    Raises:
        ConfigError: A parameter has another name, or the function is asynchronous.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"the function of {name!r} is async; allowed is a function that returns the value")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise ConfigError(
            f"the parameters of {function!r}, the function of {name!r}, are not known; "
            "allowed is a function with named parameters, for example a lambda"
        ) from None
    parts: list[tuple[inspect.Parameter, CallFunction]] = []
    for parameter in parameters:
        part = _part_of_call(parameter.name, signature)
        if part is not None and parameter.kind in (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY):
            parts.append((parameter, part))
        elif parameter.default is inspect.Parameter.empty:
            raise _unknown_parameter(name, parameter, signature)
    if not parts:
        return lambda *_: function()
    (first, get_first), *others = parts
    is_simple = first is parameters[0] and first.kind in _POSITIONAL
    if is_simple and not others and first.default is inspect.Parameter.empty:
        return _with_one_part(function, get_first)
    return partial(_call_with_parts, function, parts)


def _compile_label(
    name: str, value: object, signature: Signature, on_error: Callable[[str], None]
) -> Callable[..., str]:
    if not callable(value):
        constant = clean_label_value(value)
        return lambda *_: constant
    function = compile_function(name, value, signature)

    def get_value(args: Arguments, kwargs: Keywords, result: Any, error: BaseException | None) -> str:
        try:
            found = function(args, kwargs, result, error)
            return EMPTY if found is MISSING else str(found)
        except Exception:
            on_error(f"label {name}")
            return EMPTY

    return get_value


def _with_one_part(function: Callable[..., Any], get_part: CallFunction) -> CallFunction:
    """Return a function of a call that passes one part of it."""
    if isinstance(get_part, _PositionalArgument):  # without a call of get_part, which takes longer
        index, name, default = get_part.index, get_part.name, get_part.default

        def call_with_argument(
            args: Arguments, kwargs: Keywords, result: Any, error: BaseException | None
        ) -> Any:
            part = args[index] if index < len(args) else kwargs.get(name, default)
            return MISSING if part is MISSING else function(part)

        return call_with_argument

    def call_with_part(args: Arguments, kwargs: Keywords, result: Any, error: BaseException | None) -> Any:
        part = get_part(args, kwargs, result, error)
        return MISSING if part is MISSING else function(part)

    return call_with_part


def _call_with_parts(
    function: Callable[..., Any], parts: Sequence[tuple[inspect.Parameter, CallFunction]], *call: Any
) -> Any:
    positional, named = [], {}
    for parameter, get_part in parts:
        part = get_part(*call)
        if part is MISSING:
            part = parameter.default
            if part is inspect.Parameter.empty:
                return MISSING
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            positional.append(part)
        else:
            named[parameter.name] = part
    return function(*positional, **named)


def _part_of_call(name: str, signature: Signature) -> CallFunction | None:
    """Return the function that returns an argument, the result, the error, the request or the response."""
    parameter = signature.parameters.get(name)
    if parameter is not None:
        return _argument(parameter, list(signature.parameters).index(name), signature)
    if name == "request":
        return lambda args, kwargs, result, error: _or_missing(find_request(args, kwargs))
    if name in _OUTCOMES and signature.has_ended:
        return _OUTCOME_PARTS[name]
    kinds = [each.kind for each in signature.parameters.values()]
    if inspect.Parameter.VAR_KEYWORD in kinds and name not in _OUTCOMES:
        return lambda args, kwargs, result, error: kwargs.get(name, MISSING)
    return None


def _argument(parameter: inspect.Parameter, index: int, signature: Signature) -> CallFunction:
    name = parameter.name
    default = MISSING if parameter.default is inspect.Parameter.empty else parameter.default
    if parameter.kind in _POSITIONAL:
        return _PositionalArgument(index, name, default)
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return lambda args, kwargs, result, error: args[index:]
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        return lambda args, kwargs, result, error: kwargs.get(name, default)
    named = {other for other, each in signature.parameters.items() if each is not parameter}
    return lambda args, kwargs, result, error: {
        key: value for key, value in kwargs.items() if key not in named
    }


def _or_missing(part: Any) -> Any:
    return MISSING if part is None else part


_OUTCOME_PARTS: Mapping[str, CallFunction] = {
    "result": lambda args, kwargs, result, error: result,
    "error": lambda args, kwargs, result, error: MISSING if error is None else error,
    "response": lambda args, kwargs, result, error: _or_missing(
        find_response(args, kwargs, None if result is MISSING else result, error)
    ),
}


def _unknown_parameter(name: str, parameter: inspect.Parameter, signature: Signature) -> ConfigError:
    names = [*signature.parameters, "request", *(_OUTCOMES if signature.has_ended else ())]
    return ConfigError(
        f"the function of {name!r} has the parameter {str(parameter)!r}; allowed are the parameters of "
        f"{signature.owner}() and parts of the call: {', '.join(dict.fromkeys(names))}"
    )
