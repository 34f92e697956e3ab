"""The label values of one request, from its start, its route, and the framework's request and response."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from web_prom.hooks import ExtraLabel
from web_prom.metrics.labels import EMPTY, OTHER, UNMATCHED, sanitize_label_value
from web_prom.metrics.namings.model import Naming
from web_prom.metrics.request_start import RequestStart


class RequestAttributes:
    """Computes the attributes of a naming and the extra labels of requests. Safe to share between threads.

    Args:
        naming: The naming.
        getters: Functions that return an attribute from the framework's request and response, by the names of
            :attr:`web_prom.metrics.namings.model.Naming.request_attributes`.
        extra_labels: The functions of the extra labels, by label.
        record_error: Called with a text if such a function raises.

    Attributes:
        functions: The functions of the attributes, then those of the extra labels, each with its name. Their
            values are the ``extra`` of a recording.
    """

    def __init__(
        self,
        naming: Naming,
        getters: Mapping[str, ExtraLabel],
        extra_labels: Mapping[str, ExtraLabel],
        record_error: Callable[[str], None],
    ) -> None:
        self._naming = naming
        self._names = tuple(name for name in naming.request_attributes if name in getters)
        self.functions = (*((name, getters[name]) for name in self._names), *extra_labels.items())
        self._record_error = record_error
        self._no_labels = (EMPTY,) * len(extra_labels)

    def compute(
        self, request: Any, response: Any, reraise: tuple[type[Exception], ...] = ()
    ) -> tuple[str, ...]:
        """Return the values of all functions for a request and its response.

        The value of a function that raises is empty.

        Args:
            request: The request of the framework.
            response: The response of the framework.
            reraise: Exceptions that are raised to the caller. No other exception is raised.
        """
        values = []
        for name, function in self.functions:
            try:
                values.append(sanitize_label_value(str(function(request, response))))
            except reraise:
                raise
            except Exception:
                self._record_error(f"label {name}")
                values.append(EMPTY)
        return tuple(values)

    def attributes(
        self, request_start: RequestStart, route: str | None, extra: tuple[str, ...]
    ) -> dict[str, str]:
        """Return the attributes of a request from its start, its route and the values of the functions."""
        naming = self._naming
        attributes = dict.fromkeys(naming.request_attributes, EMPTY)
        attributes.update(request_start.attributes)
        found = dict(zip(self._names, extra, strict=False))
        attributes.update(found)
        if attributes.get("method") == OTHER:
            attributes["method"] = naming.other_method
        attributes["route"] = UNMATCHED if route is None else route
        attributes["template"] = route or EMPTY
        view = found.get("view") if "view" in self._names else route
        attributes["view"] = view or naming.unmatched
        return attributes

    def labels(self, extra: tuple[str, ...]) -> tuple[str, ...]:
        """Return the values of the extra labels. They are empty if they are not known."""
        return extra[len(self._names) :] or self._no_labels
