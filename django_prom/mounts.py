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

from django_prom.views import live, metrics, split_live_path

Chain = tuple[Any, ...]
"""The resolvers and, last, the URL pattern on the way from the root of the URLs to a view."""

# A regular expression that matches only one text.
_LITERAL_REGEX = re.compile(r"\^((?:[\w/ -]|\\[./-])*)")


class Mounts(NamedTuple):
    """The places where the URLs of a project include ``django_prom.urls``, at any depth and in any namespace.

    Attributes:
        paths: The paths without a variable part, relative to the script name.
        has_variables: Whether it is also included below a pattern with a variable part.
    """

    paths: tuple[str, ...]
    has_variables: bool

    @property
    def is_mounted(self) -> bool:
        """Whether the metrics are mounted at any path."""
        return bool(self.paths) or self.has_variables


@lru_cache(maxsize=64)
def find_mounts(urlconf: Any, view: Any = metrics) -> Mounts:
    """Return where a view is mounted. The first call for a URLconf searches all of its URLs.

    Inside ``i18n_patterns`` the path is that of the project's default language. At the paths of the other
    languages the view answers.

    Raises:
        Exception: The URLs cannot be imported.
    """
    with translation.override(settings.LANGUAGE_CODE):
        found = [_literal_path(chain) for chain in _iter_chains(get_resolver(urlconf).url_patterns, (), view)]
    paths = dict.fromkeys(f"/{path}" for path in found if path is not None)
    return Mounts(tuple(paths), None in found)


def is_mounted_at(urlconf: Any, path: str) -> bool:
    """Return whether the metrics are mounted at a path, with or without a slash at its end.

    Raises:
        Exception: The URLs cannot be imported.
    """
    mounts = find_mounts(urlconf)
    variants = (path, path[:-1] if path.endswith("/") else f"{path}/")
    if any(variant in mounts.paths for variant in variants):
        return True
    return mounts.has_variables and any(_resolves_to_metrics(urlconf, variant) for variant in variants)


def is_live_page_at(urlconf: Any, path: str) -> bool:
    """Return whether a path is one of the live page, which is mounted where the metrics are.

    Raises:
        Exception: The URLs cannot be imported.
    """
    found = split_live_path(path)
    return found is not None and found[0] in find_mounts(urlconf, live).paths


def _resolves_to_metrics(urlconf: Any, path: str) -> bool:
    try:
        with translation.override(settings.LANGUAGE_CODE):
            return get_resolver(urlconf).resolve(path).func is metrics
    except Resolver404:
        return False


def _iter_chains(patterns: Iterable[Any], outer: Chain, view: Any) -> Iterator[Chain]:
    """Yield each chain that ends at a view, from the outermost resolver to the pattern."""
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            if pattern.callback is view:
                yield (*outer, pattern)
        elif isinstance(pattern, URLResolver) and not any(_includes_same(pattern, each) for each in outer):
            yield from _iter_chains(pattern.url_patterns, (*outer, pattern), view)


def _includes_same(one: Any, other: Any) -> bool:
    """Return whether two resolvers include the same URLs. A URLconf can include itself."""
    return one is other or one.url_patterns is other.url_patterns


def _literal_path(chain: Chain) -> str | None:
    """Return the path of a chain, or None if a part of it is variable."""
    parts = []
    for pattern in (each.pattern for each in chain):
        if isinstance(pattern, LocalePrefixPattern):
            parts.append(pattern.language_prefix)
        elif isinstance(pattern, RoutePattern) and not pattern.converters:
            parts.append(str(pattern))
        else:
            regex = _LITERAL_REGEX.fullmatch(str(pattern)) if isinstance(pattern, RegexPattern) else None
            if regex is None:
                return None
            parts.append(regex[1].replace("\\", ""))
    return "".join(parts)
