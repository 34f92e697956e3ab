"""Render times of Jinja's templates."""

from __future__ import annotations

import asyncio
import gc
import traceback
from typing import Any

import pytest
from jinja2 import DictLoader, Environment
from jinja2.nativetypes import NativeEnvironment
from prometheus_client import CollectorRegistry

from web_prom.config import Config
from web_prom.metrics.recorder import Recorder
from web_prom.templates.jinja import instrument, uninstrument
from web_prom.templates.render_times import RenderTimes

SOURCES = {
    "page.html": "{% extends 'base.html' %}{% block body %}{% include 'part.html' %}{% endblock %}",
    "base.html": "<{% block body %}{% endblock %}>",
    "part.html": "part",
    "broken.html": "{{ 1 / 0 }}",
    "parts.html": "{% for number in numbers %}{{ number }}{% endfor %}",
    "outer.html": "{{ inner.render() }}",
}


class Measured:
    """An environment, and the number of renderings by template."""

    def __init__(self, registry: CollectorRegistry, kind: type[Environment] = Environment, **options: Any):
        self.registry = registry
        self.recorder = Recorder(Config(**options.pop("settings", {})), registry)
        self.times = RenderTimes(self.recorder)
        self.environment = kind(loader=DictLoader(SOURCES), **options)
        instrument(self.environment, self.times)

    def __call__(self, name: str) -> Any:
        return self.environment.get_template(name)

    @property
    def counts(self) -> dict[str, float]:
        return {
            sample.labels["template"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "template_render_duration_seconds_count" and sample.labels["engine"] == "jinja2"
        }


@pytest.fixture
def measured(registry: CollectorRegistry) -> Measured:
    """Return an environment that is measured."""
    return Measured(registry)


def test_jinja_measures_the_template_that_is_rendered(measured: Measured) -> None:
    """An included and an extended template are a part of it."""
    assert measured("page.html").render() == "<part>"
    assert measured("part.html").render() == "part"
    assert measured("page.html").render() == "<part>"
    assert measured.counts == {"page.html": 2, "part.html": 1}


def test_jinja_measures_a_rendering_inside_of_another_as_a_part(measured: Measured) -> None:
    assert measured("outer.html").render(inner=measured("part.html")) == "part"
    assert measured.counts == {"outer.html": 1}


def test_jinja_string_has_no_name(measured: Measured) -> None:
    for text in ("a", "b"):
        assert measured.environment.from_string(text).render() == text
    assert measured.counts == {"_string": 2}


def test_jinja_exception_passes_unchanged(measured: Measured) -> None:
    """The traceback shows the line of the template."""
    with pytest.raises(ZeroDivisionError) as raised:
        measured("broken.html").render()
    assert traceback.extract_tb(raised.value.__traceback__)[-1].name == "top-level template code"
    assert measured("part.html").render() == "part"
    assert measured.counts == {"broken.html": 1, "part.html": 1}


def test_jinja_stream_is_measured_at_its_end(measured: Measured) -> None:
    stream = measured("parts.html").generate(numbers=[1, 2])
    assert next(stream) == "1"
    assert measured("part.html").render() == "part", "a part does not hide another template"
    assert measured.counts == {"part.html": 1}
    assert list(stream) == ["2"]
    assert "".join(measured("parts.html").stream(numbers=[3])) == "3"
    assert measured.counts == {"part.html": 1, "parts.html": 2}


def test_jinja_stream_that_is_closed_is_counted_at_the_next_scrape(measured: Measured) -> None:
    """The garbage collector may close it, so nothing is written then."""
    stream = measured("parts.html").generate(numbers=[1, 2])
    next(stream)
    del stream
    gc.collect()
    measured("parts.html").generate(numbers=[])  # never started
    assert measured.counts == {}
    for user in list(measured.recorder.families.recorders):
        user.on_scrape()
    assert measured.counts == {"parts.html": 1}


def test_jinja_stream_with_an_exception_is_counted(measured: Measured) -> None:
    with pytest.raises(ZeroDivisionError):
        list(measured("broken.html").generate())
    assert measured.counts == {"broken.html": 1}


def test_jinja_async_templates_are_measured_once(registry: CollectorRegistry) -> None:
    measured = Measured(registry, enable_async=True)

    async def render() -> tuple[str, str]:
        page = await measured("page.html").render_async()
        return page, "".join([each async for each in measured("part.html").generate_async()])

    assert asyncio.run(render()) == ("<part>", "part")
    assert measured("page.html").render() == "<part>"
    assert list(measured("parts.html").generate(numbers=[1])) == ["1"]
    assert measured.counts == {"page.html": 2, "part.html": 1, "parts.html": 1}


def test_jinja_concurrent_async_renderings_are_all_measured(registry: CollectorRegistry) -> None:
    measured = Measured(registry, enable_async=True)

    async def numbers() -> list[int]:
        await asyncio.sleep(0)
        return [1]

    async def render() -> list[str]:
        template = measured.environment.from_string("{% for each in numbers() %}{{ each }}{% endfor %}")
        return await asyncio.gather(*(template.render_async(numbers=numbers) for _ in range(3)))

    assert asyncio.run(render()) == ["1"] * 3
    assert measured.counts == {"_string": 3}


def test_jinja_native_values_keep_their_type(registry: CollectorRegistry) -> None:
    measured = Measured(registry, NativeEnvironment)
    assert measured.environment.from_string("{{ value }}").render(value=None) is None
    assert list(measured.environment.from_string("{{ value }}").generate(value=None)) == [None]
    assert measured.counts == {"_string": 2}


def test_jinja_names_are_limited(registry: CollectorRegistry) -> None:
    measured = Measured(registry, settings={"max_label_sets": 2, "constant_labels": {"zone": "eu"}})
    for name in ("page.html", "part.html", "base.html", "outer.html"):
        measured(name).render(inner=measured("part.html"))
    assert measured.counts == {"page.html": 1, "part.html": 1, "_overflow": 2}


def test_jinja_error_of_the_measurement_is_counted(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured.times, "_writer_for", None)
    assert measured("part.html").render() == "part"
    stage = {"stage": "templates"}
    assert measured.registry.get_sample_value("web_prom_instrumentation_errors_total", stage) == 1


def test_jinja_uninstrument_restores_the_class(measured: Measured) -> None:
    instrument(measured.environment, measured.times)
    assert type(measured("part.html")).__mro__[1] is Environment.template_class
    uninstrument(measured.environment)
    assert measured.environment.template_class is Environment.template_class
