"""Measures the templates of an environment of Jinja. Jinja is not imported."""

from __future__ import annotations

from typing import Any

from web_prom.templates.render_times import AsyncChunks, Chunks, RenderTimes

ENGINE = "jinja2"


def instrument(environment: Any, times: RenderTimes) -> None:
    """Measure the templates that an environment loads from now on. A second call changes nothing.

    The environment gets a subclass of its ``template_class``. Templates that include, extend or import a
    template do not call its methods, so only the template that the application renders is measured.

    Args:
        environment: An object of ``jinja2.Environment`` or a subclass.
        times: Where the times are observed.
    """
    base = environment.template_class
    if not hasattr(base, "_web_prom_base"):
        environment.template_class = _measured_class(base, times)


def uninstrument(environment: Any) -> None:
    """Let an environment load templates that are not measured."""
    base = getattr(environment.template_class, "_web_prom_base", None)
    if base is not None:
        environment.template_class = base


def _measured_class(base: Any, times: RenderTimes) -> Any:
    class Template(base):  # type: ignore[misc]
        __doc__ = base.__doc__
        _web_prom_base = base

        def render(self, *args: Any, **options: Any) -> Any:
            with times.measure(ENGINE, self.name):
                return super().render(*args, **options)

        async def render_async(self, *args: Any, **options: Any) -> Any:
            with times.measure(ENGINE, self.name):
                return await super().render_async(*args, **options)

        def generate(self, *args: Any, **options: Any) -> Chunks:
            return times.stream(ENGINE, self.name, super().generate(*args, **options))

        def generate_async(self, *args: Any, **options: Any) -> AsyncChunks:
            return times.stream_async(ENGINE, self.name, super().generate_async(*args, **options))

    Template.__name__, Template.__qualname__, Template.__module__ = (
        base.__name__,
        base.__qualname__,
        base.__module__,
    )
    return Template
