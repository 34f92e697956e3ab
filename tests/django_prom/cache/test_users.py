"""What uses Django's caches: sessions, template fragments, cached views, and forked workers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.contrib.sessions.backends.cache import SessionStore
from django.core.cache import cache, caches
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.test import RequestFactory, override_settings
from django.views.decorators.cache import cache_page
from prometheus_client import CollectorRegistry

from tests.web_prom.support import errors, python, samples

from .project import DUMMY, Measured, use_caches


def test_sessions_in_a_cache_are_measured(measured: Measured) -> None:
    session = SessionStore()
    session["user"] = 7
    session.save()
    assert SessionStore(session.session_key)["user"] == 7
    found = measured.operations()
    assert found["get hit"] == 1
    assert found["add ok"] >= 1


def test_template_fragments_are_measured(measured: Measured) -> None:
    engine = Engine(libraries={"cache": "django.templatetags.cache"})
    template = engine.from_string("{% load cache %}{% cache 60 side %}{{ text }}{% endcache %}")
    assert template.render(Context({"text": "first"})) == "first"
    assert template.render(Context({"text": "second"})) == "first"
    assert measured.operations() == {"get miss": 1, "set ok": 1, "get hit": 1}


def test_cached_views_are_measured(measured: Measured) -> None:
    calls: list[int] = []

    @cache_page(60)  # type: ignore[untyped-decorator]
    def view(request: HttpRequest) -> HttpResponse:
        calls.append(1)
        return HttpResponse("ok")

    with override_settings(ALLOWED_HOSTS=["*"]):
        for _ in range(2):
            response: Any = view(RequestFactory().get("/"))
            assert response.content == b"ok"
    assert calls == [1]
    assert measured.operations()["get hit"] == 2


def test_operations_of_a_forked_process_are_counted_in_it(measured: Measured) -> None:
    cache.get("a")
    child = os.fork()
    if child == 0:
        try:
            cache.get("a")
            os._exit(0 if measured.operations() == {"get miss": 2} else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert measured.operations() == {"get miss": 1}


WORKERS = """
    import os
    import django
    from django.conf import settings
    backend = "django.core.cache.backends.locmem.LocMemCache"
    caches = {"default": {"BACKEND": backend}}
    settings.configure(INSTALLED_APPS=["django_prom"], PROM_CACHE=True, CACHES=caches)
    django.setup()
    from django.core.cache import cache
    from django_prom import conf
    from web_prom import collector_for
    conf.instrumentation()
    cache.get("a")
    cache.set("c", 1)
    for _ in range(3):
        cache.get_many(["c", "c"])
        cache.get_many(["c"])
    for _ in range(3):
        child = os.fork()
        if child == 0:
            cache.get("a")
            cache.get_many(["a", "b"])
            cache.get_many(["c"])
            os._exit(0)
        os.waitpid(child, 0)
    cache.get("a")
    for family in collector_for(os.environ["PROMETHEUS_MULTIPROC_DIR"]).collect():
        for sample in family.samples:
            if sample.name == "cache_operations_total":
                print(sample.labels["operation"], sample.labels["result"], sample.value)
"""


def test_operations_of_all_workers_are_in_one_scrape(tmp_path: Path) -> None:
    output = python(WORKERS, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert sorted(output.splitlines()) == [
        "get miss 5.0",
        "get_many hit 9.0",
        "get_many miss 6.0",
        "set ok 1.0",
    ]


def test_naming_of_django_prometheus_has_the_kind_of_the_backend(registry: CollectorRegistry) -> None:
    with use_caches(other=DUMMY), override_settings(PROM_CACHE=True, PROM_NAMING="django-prometheus"):
        cache.set("a", 1)
        cache.get_many(["a", "b"])
        caches["other"].get("a")
        cache.clear()
    assert samples(registry, "django_cache_get_total", "backend") == {("locmem",): 2, (DUMMY,): 1}
    assert samples(registry, "django_cache_get_hits_total", "backend") == {("locmem",): 1}
    assert errors(registry) == {}
