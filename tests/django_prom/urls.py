"""The URLs of the test project."""

from __future__ import annotations

from functools import partial

from django.urls import include, path, re_path

from . import api, views

nested = [
    path("items/<int:pk>/", views.hello, name="item"),
    path("lists/", include([re_path(r"^(?P<slug>[-\w]+)/$", views.hello)])),
]

urlpatterns = [
    path("", views.hello),
    path("users/<int:pk>/", views.hello, name="user"),
    path("status/<int:code>/", views.status),
    path("not-modified/", views.not_modified),
    path("fail/", views.fail),
    path("missing/", views.missing),
    path("forbidden/", views.forbidden),
    path("suspicious/", views.suspicious),
    path("nothing/", views.nothing),
    path("leave/", views.leave),
    path("rendered/", views.rendered),
    path("stream/", views.stream),
    path("empty-chunk/", views.stream_empty_chunk),
    path("stream-from-async/", views.stream_from_async),
    path("async-stream/", views.async_stream),
    path("own-iteration/", views.own_iteration),
    path("file/", views.send_file),
    path("broken-file/", views.send_broken_file),
    path("read/", views.read_body),
    path("post/", views.read_post),
    path("only-get/", views.only_get),
    path("async/", views.async_hello),
    path("async-fail/", views.async_fail),
    path("pages/<slug:slug>/", views.Page.as_view()),
    path("health/", views.health),
    path("health/class/", views.Health.as_view()),
    path("health/partial/", partial(views.health)),
    path("foo/", views.hello),
    path("foo/bar/", views.hello),
    path("foobar/", views.hello),
    path("shop/<int:shop>/", include((nested, "shop"), namespace="shop")),
    path("outlet/<int:shop>/", include((nested, "shop"), namespace="outlet")),
    re_path(r"^old/(?P<year>[0-9]{4})/(\d+)/?$", views.hello),
    path("api/", include(api.router.urls)),
    path("api/version/", api.version),
    path("", include("django_prom.urls")),
]
