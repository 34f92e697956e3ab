"""The URLs of another host of the test project. The view of one is excluded."""

from __future__ import annotations

from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.health),
    path("foo/", views.hello),
    path("only-here/", views.hello),
    path("internal/", include("django_prom.urls")),
]
