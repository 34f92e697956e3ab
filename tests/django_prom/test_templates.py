"""Render times of templates in Django (``PROM_TEMPLATES``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
from django import forms
from django.http import HttpResponse
from django.template import Context, Template, engines
from django.template.loader import render_to_string
from django.template.response import SimpleTemplateResponse
from django.test import override_settings
from django.urls import path
from prometheus_client import CollectorRegistry

from django_prom import conf
from tests.web_prom.support import python, samples

from .conftest import Site

SOURCES = {
    "page.html": "{% extends 'base.html' %}{% block body %}{% include 'part.html' %}{% endblock %}",
    "base.html": "<{% block body %}{% endblock %}>",
    "part.html": "part",
    "form.html": "{{ form.name }}",
    "broken.html": "{{ broken }}",
}
ENGINES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", SOURCES)]},
    },
]


@pytest.fixture
def counts(registry: CollectorRegistry) -> Iterator[Any]:
    """Measure until the end of the test; return a reader of the number of renderings."""
    with override_settings(TEMPLATES=ENGINES, PROM_TEMPLATES=True):
        conf.instrumentation()
        yield lambda: read(registry)


def read(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """Return the number of renderings by template and engine."""
    return {
        (sample.labels["template"], sample.labels["engine"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "template_render_duration_seconds_count"
    }


def test_templates_are_measured_by_name(counts: Any) -> None:
    """An included and an extended template are a part of the one that is rendered."""
    assert render_to_string("page.html") == "<part>"
    assert SimpleTemplateResponse("part.html").render().content == b"part"
    assert counts() == {("page.html", "django"): 1, ("part.html", "django"): 1}


def test_template_of_a_string_has_no_name(counts: Any) -> None:
    assert Template("a").render(Context()) == "a"
    assert engines["django"].from_string("b").render() == "b"
    assert counts() == {("_string", "django"): 2}


def test_templates_of_forms_are_a_part(counts: Any) -> None:
    form = type("Form", (forms.Form,), {"name": forms.CharField()})()
    assert "<input" in render_to_string("form.html", {"form": form})
    assert counts() == {("form.html", "django"): 1}


def test_template_exception_passes_unchanged(counts: Any) -> None:
    error = KeyError("mine")

    def broken() -> None:
        raise error

    with pytest.raises(KeyError) as raised:
        render_to_string("broken.html", {"broken": broken})
    assert raised.value is error
    assert counts() == {("broken.html", "django"): 1}


def test_templates_of_jinja_are_measured(registry: CollectorRegistry, tmp_path: Path) -> None:
    (tmp_path / "page.jinja").write_text("{% include 'part.jinja' %}")
    (tmp_path / "part.jinja").write_text("part")
    jinja = {"BACKEND": "django.template.backends.jinja2.Jinja2", "DIRS": [tmp_path]}
    with override_settings(TEMPLATES=[jinja], PROM_TEMPLATES=True):
        conf.instrumentation()
        assert render_to_string("page.jinja") == "part"
        with override_settings(PROM_TEMPLATES=False):
            assert engines["jinja2"].from_string("a").render() == "a"
    assert read(registry) == {("page.jinja", "jinja2"): 1}


def test_engine_that_cannot_be_created_is_counted(registry: CollectorRegistry) -> None:
    """The first template raises the same error to the project."""
    with override_settings(TEMPLATES=[{"BACKEND": "no.such.Backend"}], PROM_TEMPLATES=True):
        assert conf.instrumentation() is not None
    stage = {"stage": "templates"}
    assert registry.get_sample_value("web_prom_instrumentation_errors_total", stage) == 1


def test_templates_stop_with_the_setting(counts: Any) -> None:
    with override_settings(PROM_TEMPLATES=False):
        conf.instrumentation()
        render_to_string("part.html")
    assert counts() == {}


class NamelessTemplate:
    """A template of a backend without names."""

    template = "text"


@pytest.mark.parametrize(
    ("template_name", "label"),
    [
        (lambda: "part.html", "part.html"),
        (lambda: ["no.html", "part.html"], "['no.html', 'part.html']"),
        (lambda: ("part.html",), "('part.html',)"),
        (lambda: None, "None"),
        (lambda: engines["django"].from_string("hi"), "_string"),
        (lambda: engines["django"].get_template("part.html"), "part.html"),
        (lambda: Template("hi"), "_string"),
        (lambda: jinja2.Template("hi"), "_string"),
        (lambda: [engines["django"].from_string("hi"), "part.html"], "['_string', 'part.html']"),
        (NamelessTemplate, "_string"),
    ],
)
def test_template_name_for_django_prometheus_is_no_text_of_an_object(
    template_name: Any, label: str, site: Site, registry: CollectorRegistry
) -> None:
    """All requests share one series. Names are as that package writes them."""

    def view(request: Any) -> Any:
        response = HttpResponse()
        response.template_name = template_name()  # as TemplateResponse and REST framework set it
        return response

    urls = ModuleType("urls")
    urls.urlpatterns = [path("page/", view)]  # type: ignore[attr-defined]
    with override_settings(TEMPLATES=ENGINES, PROM_NAMING="django-prometheus", ROOT_URLCONF=urls):
        assert site("/page/") == site("/page/") == "200"
    name = "django_http_responses_total_by_templatename_total"
    assert samples(registry, name, "templatename") == {(label,): 2}


@pytest.mark.slow
def test_templates_are_not_measured_by_default() -> None:
    """No module is imported, and Django's class is not changed."""
    code = """
        import sys
        from django.conf import settings
        settings.configure(INSTALLED_APPS=["django_prom"], ROOT_URLCONF="django_prom.urls")
        import django; django.setup()
        from django.core.wsgi import get_wsgi_application
        get_wsgi_application()
        from django.template.base import Template
        features = ("templates", "model_changes", "migration_state")
        print([name for name in sys.modules if name.split("prom.")[-1] in features])
        print(Template.render.__module__)
    """
    assert python(code).split() == ["[]", "django.template.base"]
