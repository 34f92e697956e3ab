"""Directives whose text comes from the code: settings, request metrics, command line, gunicorn hooks."""

from __future__ import annotations

import ast
import io
import os
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest import mock

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_ROOT = Path(__file__).parents[2]


class _Generated(SphinxDirective):  # type: ignore[misc]
    """A directive that is replaced by reStructuredText.

    Attributes:
        sources: The files that the text comes from; the page is built again when one of them changes.
    """

    sources: tuple[str, ...] = ()

    def rest(self) -> str:
        """Return the text."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the text in the place of the directive."""
        for source in self.sources:
            self.env.note_dependency(str(_ROOT / source))
        lines = StringList(self.rest().splitlines(), source=self.get_source_info()[0])
        container = nodes.Element()
        self.state.nested_parse(lines, self.content_offset, container, match_titles=True)
        return list(container.children)


class SettingsReference(_Generated):
    """Every setting of ``Config``: key, default, meaning, argument."""

    sources = ("web_prom/config/settings.py", "web_prom/metrics/conventions.py")

    def rest(self) -> str:
        """Return one entry for each field."""
        from web_prom.config import FIELDS, PREFIX

        return "\n".join(
            f".. setting:: {PREFIX}{name.upper()}\n\n"
            f"   {field.metadata['meaning'].replace('`', '``')}\n\n"
            f"   | Default: {_default(getattr(field, 'default', None), field)}\n"
            f"   | Argument: ``{name}``\n"
            for name, field in FIELDS.items()
        )


def _default(value: object, field: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple) and value and isinstance(value[0], float):
        return "``" + ", ".join(f"{bound:g}" for bound in value) + "``"
    # A mapping has a factory as default.
    return f"``{value!r}``" if isinstance(value, str | bool | int | float | tuple) else "``{}``"


class RequestMetrics(_Generated):
    """The families of requests in one naming: name, type, labels, help."""

    required_arguments = 1
    sources = tuple(
        f"web_prom/metrics/namings/{name}.py"
        for name in (
            *("model", "prometheus", "opentelemetry"),
            *("flask_exporter", "django_prometheus", "asgi_exporters"),
        )
    )

    def rest(self) -> str:
        """Return a list with an entry for each family."""
        from web_prom.metrics.conventions import NAMINGS, MetricSpec

        naming = NAMINGS[self.arguments[0]]
        kinds = {
            **dict.fromkeys(("requests", "exceptions"), "counter"),
            **dict.fromkeys(("in_progress", "info"), "gauge"),
            **dict.fromkeys(("request_size", "response_size"), naming.size_kind),
        }
        described = [(value, kinds.get(name, "histogram")) for name, value in naming._asdict().items()]
        described += [(family.spec, family.kind) for family in naming.further]
        described += [(spec, "counter") for spec in naming.further_exceptions]
        text = ""
        for family, kind in described:
            if isinstance(family, MetricSpec):
                name = f"{family.prefix}_{family.name}" if family.prefix else family.name
                labels = ", ".join(f"``{label}``" for label in family.labels) or "none"
                text += f"``{name}`` ({kind})\n    {family.documentation} Labels: {labels}.\n\n"
        bounds = ", ".join(f"{bound:g}" for bound in naming.duration_buckets)
        return f"{text}Default buckets of the duration, in seconds: ``{bounds}``.\n"


class FixedBuckets(_Generated):
    """The buckets that no setting changes."""

    sources = ("web_prom/metrics/conventions.py",)

    def rest(self) -> str:
        """Return a list of histograms with their bounds."""
        from web_prom.metrics.conventions import QUEUE_TIME_BUCKETS, WEBSOCKET_DURATION_BUCKETS

        fixed = {
            "http_request_queue_seconds": QUEUE_TIME_BUCKETS,
            "websocket_connection_duration_seconds": WEBSOCKET_DURATION_BUCKETS,
        }
        return "".join(
            f"``{name}``\n    ``{', '.join(f'{bound:g}' for bound in bounds)}`` seconds\n\n"
            for name, bounds in fixed.items()
        )


class CommandLine(_Generated):
    """What ``web-prom --help`` prints, or ``web-prom COMMAND --help`` for the command that is named."""

    optional_arguments = 1
    sources = tuple(
        str(path.relative_to(_ROOT))
        for path in (_ROOT / "web_prom" / "__main__.py", *sorted((_ROOT / "web_prom" / "cli").glob("*.py")))
    )

    def rest(self) -> str:
        """Return the parser's own text."""
        from web_prom.__main__ import main

        printed = io.StringIO()
        # The parser fits its text to the terminal.
        with mock.patch.dict(os.environ, COLUMNS="100"), redirect_stdout(printed), suppress(SystemExit):
            main([*self.arguments, "--help"])
        return ".. code-block:: text\n\n" + "".join(
            f"   {line}\n" if line else "\n" for line in printed.getvalue().splitlines()
        )


class GunicornHooks(_Generated):
    """The hooks of ``web_prom.gunicorn``, read without an import: that would make a shared directory."""

    sources = ("web_prom/gunicorn.py",)

    def rest(self) -> str:
        """Return one entry for each hook."""
        tree = ast.parse((_ROOT / "web_prom" / "gunicorn.py").read_text("utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
        text = ""
        for function in functions:
            head, _, body = (ast.get_docstring(function) or "").partition("Raises:")
            arguments = ", ".join(argument.arg for argument in function.args.args)
            text += f".. py:function:: {function.name}({arguments})\n"
            text += "   :module: web_prom.gunicorn\n\n"
            text += "".join(f"   {line}\n" for line in head.splitlines())
            if body:
                name, _, reason = " ".join(body.split()).partition(": ")
                text += f"\n   :raises {name}: {reason}\n"
            text += "\n"
        return text


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives, and ``setting`` as a kind of object that pages can refer to."""
    app.add_object_type("setting", "setting", indextemplate="pair: %s; setting")
    app.add_directive("settings-reference", SettingsReference)
    app.add_directive("request-metrics", RequestMetrics)
    app.add_directive("fixed-buckets", FixedBuckets)
    app.add_directive("command-line", CommandLine)
    app.add_directive("gunicorn-hooks", GunicornHooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
