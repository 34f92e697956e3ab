"""The paths at which a project has mounted its metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.urls import LocalePrefixPattern, Resolver404, URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern, RoutePattern
from django.utils import translation

from django_prom.views import metrics

Chain = tuple[Any, ...]

# A regular expression that one text matches.
_LITERAL = re.compile(r"\^((?:[\w/ -]|\\[./-])*)")


class Mounts(NamedTuple):
    """Where the URLs of a project include ``django_prom.urls``, at any depth and in any namespace.

    Attributes:
        paths: The paths that have no variable part, below the script's own.
        has_variables: Whether it is also included below a pattern with a variable part.
    """

    paths: tuple[str, ...]
    has_variables: bool

    @property
    def is_somewhere(self) -> bool:
        """Whether there is any such path."""
        return bool(self.paths) or self.has_variables


@lru_cache(maxsize=64)
def mounts(urlconf: Any) -> Mounts:
    """Return where the metrics are mounted. The first call for a URLconf looks through all of its URLs.

    Inside ``i18n_patterns`` the path is that of the project's own language; the view answers at the others.

    Raises:
        Exception: The URLs cannot be imported.
    """
    with translation.override(settings.LANGUAGE_CODE):
        found = [_literal(chain) for chain in _chains(get_resolver(urlconf).url_patterns, ())]
    paths = dict.fromkeys(f"/{path}" for path in found if path is not None)
    return Mounts(tuple(paths), None in found)


def is_mounted_at(urlconf: Any, path: str) -> bool:
    """Tell whether the metrics are mounted at a path; one slash more or less at its end is the same path.

    Raises:
        Exception: The URLs cannot be imported.
    """
    known = mounts(urlconf)
    same = (path, path[:-1] if path.endswith("/") else f"{path}/")
    if any(each in known.paths for each in same):
        return True
    return known.has_variables and any(_is_view_at(urlconf, each) for each in same)


def _is_view_at(urlconf: Any, path: str) -> bool:
    try:
        with translation.override(settings.LANGUAGE_CODE):
            return get_resolver(urlconf).resolve(path).func is metrics
    except Resolver404:
        return False


def _chains(patterns: Iterable[Any], above: Chain) -> Iterator[Chain]:
    """Give the resolvers and the pattern of each way to the view, from the outermost on."""
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            if pattern.callback is metrics:
                yield (*above, pattern)
        elif isinstance(pattern, URLResolver) and not any(_same(pattern, each) for each in above):
            yield from _chains(pattern.url_patterns, (*above, pattern))


def _same(one: Any, other: Any) -> bool:
    """Tell whether two resolvers include the same URLs: a URLconf can include itself."""
    return one is other or one.url_patterns is other.url_patterns


def _literal(chain: Chain) -> str | None:
    """Return the path of a chain, or None if a part of it is variable."""
    parts = []
    for pattern in (each.pattern for each in chain):
        if isinstance(pattern, LocalePrefixPattern):
            parts.append(pattern.language_prefix)
        elif isinstance(pattern, RoutePattern) and not pattern.converters:
            parts.append(str(pattern))
        else:
            regex = _LITERAL.fullmatch(str(pattern)) if isinstance(pattern, RegexPattern) else None
            if regex is None:
                return None
            parts.append(regex[1].replace("\\", ""))
    return "".join(parts)
