"""Render times of Flask's templates (``PROM_TEMPLATES``)."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, render_template, render_template_string, stream_template, template_rendered
from jinja2 import DictLoader
from prometheus_client import CollectorRegistry

from flask_prom import FlaskProm
from tests.web_prom.support import python

from .conftest import Metrics


@pytest.fixture
def app(registry: CollectorRegistry) -> Flask:
    """Return an application with templates."""
    app = Flask(__name__)
    app.jinja_loader = DictLoader({"page.html": "page", "broken.html": "{{ 1 / 0 }}"})
    FlaskProm(app, registry=registry, templates=True)
    app.add_url_rule("/", "page", lambda: render_template("page.html"))
    app.add_url_rule("/string", "string", lambda: render_template_string("a string"))
    app.add_url_rule("/stream", "stream", lambda: app.response_class(stream_template("page.html")))
    app.add_url_rule("/broken", "broken", lambda: render_template("broken.html"))
    return app


def counts(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return the number of renderings by template and engine."""
    return metrics.by_labels("template_render_duration_seconds_count", "template", "engine")


def test_templates_are_measured_by_name(app: Flask, metrics: Metrics) -> None:
    seen: list[Any] = []
    template_rendered.connect(lambda *_, template, **__: seen.append(template.name), app, weak=False)
    client = app.test_client()
    assert client.get("/").text == client.get("/stream").text == "page"
    assert client.get("/string").text == "a string"
    assert client.get("/broken").status_code == 500
    assert counts(metrics) == {
        ("page.html", "jinja2"): 2,
        ("_string", "jinja2"): 1,
        ("broken.html", "jinja2"): 1,
    }
    assert seen == ["page.html", "page.html", None]


def test_templates_setting_does_not_create_the_environment(app: Flask, metrics: Metrics) -> None:
    """Options of Jinja that are set after init_app have an effect."""
    assert "jinja_env" not in vars(app)
    app.jinja_options = {"variable_start_string": "<<", "variable_end_string": ">>"}
    with app.app_context():
        assert render_template_string("<< 1 >>") == "1"
    assert counts(metrics) == {("_string", "jinja2"): 1}


def test_templates_of_an_environment_that_exists_are_measured(registry: CollectorRegistry) -> None:
    app = Flask(__name__)
    assert app.jinja_env
    FlaskProm(app, registry=registry, templates=True)
    with app.app_context():
        render_template_string("a")
    assert counts(Metrics(registry)) == {("_string", "jinja2"): 1}


@pytest.mark.slow
def test_templates_are_not_measured_by_default() -> None:
    """The module is not imported, and Flask's application is not changed."""
    code = """
        import sys
        from flask import Flask
        from flask_prom import FlaskProm
        app = Flask("shop")
        FlaskProm(app)
        app.test_client().get("/")
        print([name for name in sys.modules if "prom.templates" in name])
        print("create_jinja_environment" in vars(app))
    """
    assert python(code).split() == ["[]", "False"]
