"""Measures how long templates are rendered. Only imported if ``PROM_TEMPLATES`` is on."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.conf import settings
from django.template import engines
from django.template.base import Template

from web_prom.metrics.recorder import Recorder
from web_prom.templates import jinja
from web_prom.templates.render_times import RenderTimes

ENGINE = "django"

_DJANGO_BACKEND = "django.template.backends.django.DjangoTemplates"


class TemplateRendering:
    """Measures the templates of Django's engine, and of each other engine that has an environment of Jinja.

    Django sends no signal when a template is rendered. So ``Template.render`` is wrapped, through which
    all code goes: shortcuts, ``TemplateResponse``, forms and the admin.

    Args:
        recorder: The recorder of the project.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._times = RenderTimes(recorder)
        self._environments: list[Any] = []

    def start(self) -> None:
        """Measure from now on."""
        _current.append(self._times)
        _wrap_render()
        for configured in settings.TEMPLATES:
            if configured.get("BACKEND") != _DJANGO_BACKEND:
                self._instrument_jinja()
                break

    def stop(self) -> None:
        """Measure nothing more."""
        _current.remove(self._times)
        for environment in self._environments:
            jinja.uninstrument(environment)

    def _instrument_jinja(self) -> None:
        try:
            for engine in engines.all():
                environment = getattr(engine, "env", None)
                if hasattr(environment, "template_class"):
                    jinja.instrument(environment, self._times)
                    self._environments.append(environment)
        except Exception:  # the project's own error, which its first template raises too
            self._recorder.record_internal_error("templates")


_current: list[RenderTimes] = []


def _wrap_render() -> None:
    """Wrap ``Template.render``, once."""
    render = Template.render
    if getattr(render, "is_measured", False):
        return

    @wraps(render)
    def measured_render(self: Any, *args: Any, **options: Any) -> Any:
        if not _current:
            return render(self, *args, **options)
        with _current[-1].measure(ENGINE, self.name):
            return render(self, *args, **options)

    measured_render.is_measured = True  # type: ignore[attr-defined]
    Template.render = measured_render
