"""From Django's URL patterns to the template that is the route label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.urls import LocalePrefixPattern
from django.urls.resolvers import RegexPattern
from django.utils import translation

from web_prom.metrics.routes import absolute_route

LANGUAGE = "<language>/"
"""What stands for the prefix of ``i18n_patterns``: one series for all languages."""

VARIABLE = "<var>"
"""What stands for a part of a regular expression that has no name."""

_QUANTIFIER = re.compile(r"(?:[*+?]|\{\d*,?\d*\})[?+]?")
_MANY = re.compile(r"[*+]|\{\d*,?\d*\}")
_GROUP = re.compile(
    r"\((?:\?(?:P<(?P<name>\w+)>|P=(?P<again>\w+)|(?P<kind>[:=!>#(]|<[=!])|[a-zA-Z-]+(?P<flags>[:)])))?"
)


def template(patterns: Iterable[Any], matched: str) -> str:
    """Return the route template of a chain of patterns, from the outermost to the view's own.

    Translated patterns are given in the project's own language, so that languages do not multiply series.

    Args:
        patterns: The ``pattern`` of each ``URLResolver`` and, last, of the ``URLPattern``.
        matched: ``ResolverMatch.route``, which is in the language of the request.
    """
    chain = list(patterns)
    prefix = ""
    if chain and isinstance(chain[0], LocalePrefixPattern):
        chain = chain[1:]
        # The default language may have no prefix.
        prefix = LANGUAGE if matched != _joined(chain) else ""
    if all(isinstance(_source(pattern), str) for pattern in chain):
        return absolute_route(prefix + _readable_chain(chain))
    with translation.override(settings.LANGUAGE_CODE):
        return absolute_route(prefix + _readable_chain(chain))


def guess(matched: str) -> str:
    """Return the template of a route of which only the text is known: is it a regular expression?"""
    is_regex = matched.startswith("^") or matched.endswith(("$", r"\Z")) or "(?P<" in matched
    return absolute_route(readable(matched) if is_regex else matched)


def readable(regex: str) -> str:
    """Return a regular expression as a template: ``^users/(?P<pk>[0-9]+)/$`` as ``users/<pk>/``.

    Not ``simplify_regex`` of django.contrib.admindocs: it leaves escapes in, gives other results in other
    versions of Django, and a label must not change with an upgrade; nor does every project have the admin.
    """
    try:
        return re.sub(rf"(?:{VARIABLE})+", VARIABLE, _Reader(regex).read())
    except IndexError:
        return regex


def _readable_chain(chain: Sequence[Any]) -> str:
    return "".join(
        readable(str(pattern)) if isinstance(pattern, RegexPattern) else str(pattern) for pattern in chain
    )


def _joined(chain: Sequence[Any]) -> str:
    """Return the route as Django joins it."""
    joined = ""
    for pattern in chain:
        joined += str(pattern).removeprefix("^") if joined else str(pattern)
    return joined


def _source(pattern: Any) -> object:
    """Return what a pattern was made of: a string, or a translation that is one later."""
    return getattr(pattern, "_route", None) or getattr(pattern, "_regex", "")


class _Reader:
    """Reads one regular expression from left to right. Lives for one call."""

    def __init__(self, regex: str) -> None:
        self._regex = regex
        self._at = 0

    def read(self, *, inside: bool = False) -> str:
        """Return what is left as a template; inside a group, up to its end."""
        pieces: list[str] = []
        while self._at < len(self._regex):
            if inside and self._regex[self._at] == ")":
                self._at += 1
                break
            pieces.append(self._piece())
            quantifier = _QUANTIFIER.match(self._regex, self._at)
            if quantifier:
                self._at = quantifier.end()
        return "".join(pieces)

    def _piece(self) -> str:
        char = self._regex[self._at]
        if char == "(":
            return self._group()
        if char == "[":
            return self._set()
        self._at += 1
        if char == "\\":
            return self._escape()
        if char in "^$":
            return ""
        if char == "." and _MANY.match(self._regex, self._at):
            return VARIABLE
        return char

    def _escape(self) -> str:
        char = self._regex[self._at]
        self._at += 1
        if char in "AZzbB":
            return ""
        return VARIABLE if char in "dDwWsS" or char.isdigit() else char

    def _set(self) -> str:
        begin = self._at + 1
        self._at = begin + 1 if self._regex.startswith("^", begin) else begin
        if self._regex[self._at] == "]":  # as the first, it is one of the set
            self._at += 1
        while self._regex[self._at] != "]":
            self._at += 2 if self._regex[self._at] == "\\" else 1
        content = self._regex[begin : self._at].removeprefix("\\")
        self._at += 1
        return content if len(content) == 1 else VARIABLE

    def _group(self) -> str:
        opened = _GROUP.match(self._regex, self._at)
        if opened is None:
            raise IndexError
        self._at = opened.end()
        name = opened["name"] or opened["again"]
        if opened["flags"] == ")":
            return ""
        content = self.read(inside=True)
        if name:
            return f"<{name}>"
        if opened["kind"] in (":", ">") or opened["flags"]:
            return f"({content})" if "|" in content else content
        return "" if opened["kind"] in ("=", "!", "<=", "<!", "#") else VARIABLE
