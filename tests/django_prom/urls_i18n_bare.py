"""URLs in several languages. The default language has no prefix."""

from __future__ import annotations

from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path, re_path

from . import views
from .urls_i18n import TRANSLATED

urlpatterns = [
    *i18n_patterns(
        path("pages/<slug:slug>/", views.hello),
        path("old/", include([re_path(r"^(?P<year>\d+)/$", views.hello)])),
        *TRANSLATED,
        prefix_default_language=False,
    )
]
