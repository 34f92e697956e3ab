"""Route templates of Django's URL patterns."""

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
"""The template of the prefix of ``i18n_patterns``, so that all languages share one series."""

VARIABLE = "<var>"
"""The template of a variable part of a regular expression that has no name."""

_QUANTIFIER = re.compile(r"(?:[*+?]|\{\d*,?\d*\})[?+]?")
_REPETITION = re.compile(r"[*+]|\{\d*,?\d*\}")
_COMMENT = r"\(\?#(?:\\.|[^)\\])*\)"
_IGNORED = re.compile(rf"(?:{_COMMENT})*", re.DOTALL)
_IGNORED_IF_VERBOSE = re.compile(rf"(?:{_COMMENT}|[ \t\n\r\v\f]|#(?:\\.|[^\n\\])*)*", re.DOTALL)
_GROUP = re.compile(
    r"\((?:\?(?:P<(?P<name>\w+)>|P=(?P<reference>\w+)|(?P<look><?[=!])|>|\(\w+\)"
    r"|(?P<on>[a-zA-Z]*)-?(?P<off>[a-zA-Z]*)(?P<flags>[:)])))?"
)
_ESCAPE = re.compile(
    r"\\(?:x(?P<byte>[0-9a-fA-F]{2})|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>000[0-9a-fA-F]{5})"
    r"|N\{[^}]*\}|[0-3][0-7]{2}|[0-9]{1,2}|(?P<char>.))",
    re.DOTALL,
)


def chain_template(patterns: Iterable[Any], matched: str) -> str:
    """Return the route template of a chain of patterns, from the outermost one to that of the view.

    Translated patterns are in the project's default language, so that all languages share one series.

    Args:
        patterns: The ``pattern`` of each ``URLResolver``, and last that of the ``URLPattern``.
        matched: ``ResolverMatch.route``, which is in the language of the request.
    """
    chain = list(patterns)
    if all(isinstance(_source(pattern), str) for pattern in chain):
        return _template(chain, matched)
    with translation.override(settings.LANGUAGE_CODE):
        return _template(chain, matched)


def template_of_text(matched: str) -> str:
    """Return the template of a route if only its text is known, which can be a regular expression."""
    is_regex = matched.startswith("^") or matched.endswith(("$", r"\Z")) or "(?P<" in matched
    return absolute_route(regex_template(matched) if is_regex else matched)


def regex_template(regex: str) -> str:
    """Return the template of a regular expression: ``users/<pk>/`` for ``^users/(?P<pk>[0-9]+)/$``.

    ``simplify_regex`` of django.contrib.admindocs is not used. It does not remove escapes, and not every
    project has the admin. Its results depend on the version of Django, and a label must not change with an
    upgrade.
    """
    try:
        return re.sub(rf"(?:{VARIABLE})+", VARIABLE, _RegexConverter(regex).convert())
    except IndexError:
        return regex


def _template(chain: Sequence[Any], matched: str) -> str:
    prefix = ""
    if chain and isinstance(chain[0], LocalePrefixPattern):
        has_prefix = chain[0].prefix_default_language or matched != _join(chain[1:])
        prefix, chain = LANGUAGE if has_prefix else "", chain[1:]
    return absolute_route(prefix + _join_templates(chain))


def _join_templates(chain: Sequence[Any]) -> str:
    return "".join(
        regex_template(str(pattern)) if isinstance(pattern, RegexPattern) else str(pattern)
        for pattern in chain
    )


def _join(chain: Sequence[Any]) -> str:
    """Return the route of a chain, joined as Django joins it."""
    joined = ""
    for pattern in chain:
        joined += str(pattern).removeprefix("^") if joined else str(pattern)
    return joined


def _source(pattern: Any) -> object:
    """Return the text of a pattern: a string, or a lazy translation."""
    return getattr(pattern, "_route", None) or getattr(pattern, "_regex", "")


class _RegexConverter:
    """Converts one regular expression to a template, from left to right. Used once."""

    def __init__(self, regex: str) -> None:
        self._regex = regex
        self._position = 0
        self._ignored = _IGNORED

    def convert(self, *, in_group: bool = False) -> str:
        """Return the template of the rest of the expression, or of the rest of a group."""
        pieces: list[str] = []
        self._skip(self._ignored)
        while self._position < len(self._regex):
            if in_group and self._regex[self._position] == ")":
                self._position += 1
                break
            pieces.append(self._convert_next())
            self._skip(self._ignored)
            self._skip(_QUANTIFIER)
            self._skip(self._ignored)
        return "".join(pieces)

    def _skip(self, skipped: re.Pattern[str]) -> None:
        found = skipped.match(self._regex, self._position)
        if found:
            self._position = found.end()

    def _convert_next(self) -> str:
        char = self._regex[self._position]
        if char == "(":
            return self._convert_group()
        if char == "[":
            return self._convert_character_set()
        if char == "\\":
            return self._convert_escape()
        self._position += 1
        if char in "^$":
            return ""
        if char == ".":
            self._skip(self._ignored)
            return VARIABLE if _REPETITION.match(self._regex, self._position) else char
        return char

    def _convert_escape(self) -> str:
        found = _ESCAPE.match(self._regex, self._position)
        if found is None:
            raise IndexError
        self._position = found.end()
        char = found["char"]
        if char is None:
            code = found["byte"] or found["short"] or found["long"] or "0"
            char = chr(int(code, 16))
            return char if char.isprintable() else VARIABLE
        if char in "AZzbB":
            return ""
        return VARIABLE if char.isascii() and char.isalpha() else char

    def _convert_character_set(self) -> str:
        """Return the character of a set of one character, as it is outside of a set, or a variable part."""
        start = self._position + 1
        self._position = start + 1 if self._regex.startswith("^", start) else start
        if self._regex[self._position] == "]":  # the first one is a member of the set
            self._position += 1
        while self._regex[self._position] != "]":
            self._position += 2 if self._regex[self._position] == "\\" else 1
        content = self._regex[start : self._position]
        self._position += 1
        if len(content) == 1:
            return content
        if _ESCAPE.fullmatch(content):
            return _RegexConverter(content).convert() or VARIABLE
        return VARIABLE

    def _convert_group(self) -> str:
        opened = _GROUP.match(self._regex, self._position)
        if opened is None:
            raise IndexError
        self._position = opened.end()
        outside = self._ignored
        if "x" in (opened["on"] or ""):
            self._ignored = _IGNORED_IF_VERBOSE
        if "x" in (opened["off"] or ""):
            self._ignored = _IGNORED
        if opened["flags"] == ")":
            return ""
        content = self.convert(in_group=True)
        self._ignored = outside
        if name := opened["name"] or opened["reference"]:
            return f"<{name}>"
        if opened["look"]:
            return ""
        if opened.group() == "(":
            return VARIABLE
        return f"({content})" if "|" in content else content
