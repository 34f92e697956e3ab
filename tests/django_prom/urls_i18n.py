"""URLs in several languages, with translated routes."""

from __future__ import annotations

from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path, re_path
from django.utils.functional import lazystr
from django.utils.translation import get_language

from . import views


class _Translated:
    """The same as the result of gettext_lazy, without a catalogue."""

    def __init__(self, **texts: str) -> None:
        self._texts = texts

    def __str__(self) -> str:
        language = get_language()
        return self._texts.get(language or "en", self._texts["en"])


TRANSLATED = [
    path(lazystr(_Translated(en="users/", de="benutzer/")), include([path("<int:pk>/", views.hello)])),
    re_path(lazystr(_Translated(en=r"^years/(?P<year>\d+)/$", de=r"^jahre/(?P<year>\d+)/$")), views.hello),
]

urlpatterns = [
    path("plain/", views.hello),
    *i18n_patterns(
        path("", views.hello),
        path("pages/<slug:slug>/", views.hello),
        *TRANSLATED,
        path("", include("django_prom.urls")),
    ),
]
