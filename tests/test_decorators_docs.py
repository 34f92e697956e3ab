"""The pages about decorators and labels: their code runs."""

from __future__ import annotations

import inspect
import re
import textwrap
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from prometheus_client import REGISTRY

from tests.web_prom.support import ROOT
from web_prom.config.settings import Config


def code_of(page: str) -> list[str]:
    """Return the blocks of Python code of a page."""
    text = (ROOT / "docs/how-to" / page).read_text("utf-8")
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text)
    return [textwrap.dedent(block) for block in blocks]


def test_code_of_the_decorators_page_runs() -> None:
    app = Flask("shop")
    names: dict[str, Any] = {"app": app, "__name__": "shop"}
    names["Receipt"] = lambda order: SimpleNamespace(order=order)
    before = set(REGISTRY._collector_to_names)
    try:
        for block in code_of("decorators.rst"):
            exec(block, names)
        order = SimpleNamespace(kind="book", items=[1, 2])
        names["place"](order)
        names["check"](order)
        names["sell"](order)
        assert list(names["export"]([order])) == ["book"]
        assert inspect.iscoroutinefunction(names["pay"])
        assert app.test_client().get("/item/a").text == "This is a."
        value = REGISTRY.get_sample_value
        assert value("orders_total", {"kind": "book"}) == 1
        assert value("order_items_sum") == 2
        sold = {"kind": "book", "large": "False", "exception": "", "shop": "north"}
        assert value("sales_total", sold) == 1
        assert value("items_total", {"item": "a", "status": "200"}) in (1, None)  # None without the adapter
        assert value("exports_in_progress") == 0
    finally:
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)


@pytest.mark.parametrize("number", [0, 1])
def test_settings_of_the_labels_page_are_valid(number: int) -> None:
    names: dict[str, Any] = {"version_of": lambda request: "v1"}
    exec("import web_prom as prom", names)
    exec(code_of("labels.rst")[number], names)
    labels = Config.load({"extra_labels": names["PROM_EXTRA_LABELS"]}).extra_labels
    environ = {"REQUEST_METHOD": "GET", "HTTP_X_API_VERSION": "9", "HTTP_X_TENANT": "a"}
    values = {name: function(environ, None) for name, function in labels.items()}
    assert values in ({"api_version": "_other"}, {"tenant": "a", "plan": "", "version": "v1"})


def test_setting_in_the_environment_of_the_labels_page_is_valid() -> None:
    text = (ROOT / "docs/how-to/labels.rst").read_text("utf-8")
    match = re.search(r'PROM_EXTRA_LABELS="(.*)"', text)
    assert match is not None
    assert set(Config.load(environ={"PROM_EXTRA_LABELS": match[1]}).extra_labels) == {"api_version", "tenant"}
