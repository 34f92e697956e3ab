"""README agrees with the code: settings, metrics, snippets and commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.programs import needs_program
from tests.web_prom.support import python
from web_prom.config import FIELDS, PREFIX
from web_prom.runtime.backlog import Backlog
from web_prom.runtime.measurements import Measurements
from web_prom.runtime.process_details import process_detail_families
from web_prom.runtime.thread_pools import AnyioThreads

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text("utf-8")


def table(heading: str) -> list[list[str]]:
    """Return the rows of the first simple table after a heading, continuation lines joined."""
    lines = README.split(f"\n{heading}\n{'-' * len(heading)}\n")[1].splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("====")][:3]
    starts = [match.start() for match in re.finditer(r"=+", lines[rules[0]])]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    rows: list[list[str]] = []
    for line in lines[rules[1] + 1 : rules[2]]:
        cells = [line[slice(*span)].strip() for span in spans]
        if cells[0] and not (rows and cells[0].startswith("_")):
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
            rows[-1][0] = rows[-1][0].replace(" ", "")
    return rows


def test_readme_table_has_every_setting_with_its_meaning() -> None:
    """Key, order and words."""
    told = {key: meaning.replace("``", "`") for key, _, meaning in table("Settings")}
    meant = {PREFIX + name.upper(): item.metadata["meaning"] for name, item in FIELDS.items()}
    assert told == meant
    assert list(told) == list(meant)


def test_readme_table_has_every_default() -> None:
    """Numbers are compared as numbers."""
    for (key, told, _), item in zip(table("Settings"), FIELDS.values(), strict=True):
        if item.name.endswith("_buckets"):
            assert tuple(map(float, told.split())) == item.default, key
        elif item.name.endswith("_labels"):
            assert told == "{}", key
        else:
            assert told == str(item.default), key


APPLICATION = """
    import asyncio
    import warnings

    from flask import Flask
    from flask_prom import FlaskProm
    from web_prom.asgi import PrometheusMiddleware

    # Flask 2.3's test client asks for it.
    warnings.filterwarnings("ignore", "The '__version__' attribute", DeprecationWarning)

    options = {"request_size": True, "response_size": True, "first_byte": True, "queue_time": True}
    app = Flask("shop")
    FlaskProm(app, **options)

    async def serve_a_websocket():  # which WSGI cannot
        messages = iter([{"type": "websocket.receive", "text": "x"}, {"type": "websocket.disconnect"}])

        async def receive():
            return next(messages)

        async def send(message):
            pass

        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass

        await PrometheusMiddleware(app, **options)({"type": "websocket", "path": "/ws"}, receive, send)

    client = app.test_client()
    client.get("/", headers={"X-Request-Start": "t=1"})
    asyncio.run(serve_a_websocket())
    print(client.get("/metrics").text)
"""


def exposed(text: str) -> dict[str, str]:
    """Return the types of the families in a scrape, prometheus_client's own aside."""
    return {
        name: kind
        for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)
        if not name.endswith("_created") and not name.startswith(("process_", "python_"))
    }


@pytest.mark.slow
def test_readme_table_has_every_metric(tmp_path: Path) -> None:
    """With its type and labels, as an application exposes it that measures everything."""
    one, several = python(APPLICATION), python(APPLICATION, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    told = {name: (kind, meaning) for name, kind, _, meaning in table("Metrics")}
    saturation = {name for name, *_ in table("Saturation")}
    every = {name: kind for name, kind in (exposed(one) | exposed(several)).items() if name not in saturation}
    assert {name: kind for name, (kind, _) in told.items()} == every
    only_several = {name for name, (_, meaning) in told.items() if meaning.startswith("several workers:")}
    assert exposed(several).keys() - exposed(one).keys() - saturation == only_several
    assert "process_open_fds" in one
    assert "process_open_fds{worker=" in several
    for name, _, labels, _ in table("Metrics"):
        for line in re.findall(rf"^{name}(?:_count)?{{(.*)}} ", one + several, re.MULTILINE):
            assert sorted(re.findall(r'(\w+)="', line)) == sorted(filter(None, labels.split(", ")))


def test_readme_table_has_every_metric_of_saturation() -> None:
    """With its type and labels, of a process that measures all that there is."""
    measurements = Measurements()
    measurements.capacity = 1
    for durations in (measurements._loop_lag, measurements._hub_lag, measurements._asgiref_wait):
        durations.observe(0.1)
    measurements.interpreter = True
    with contextlib.closing(asyncio.new_event_loop()) as loop, socket.create_server(("127.0.0.1", 0)):
        measurements._threads[loop] = AnyioThreads(1, 2, 3)
        families = [
            *measurements.families("0", shared=False),
            *Backlog().families([os.getpid()]),
            *process_detail_families({"": os.getpid()}),
        ]
    expected = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families
    }
    assert {
        name: (kind, set(filter(None, labels.split(", ")))) for name, kind, labels, _ in table("Saturation")
    } == expected


SNIPPETS = re.split(r"\n\.\. code-block:: python\n\n", README)[1:]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=map(str, range(len(SNIPPETS))))
def test_readme_python_snippets_compile(snippet: str) -> None:
    """They compile as they stand."""
    code = re.split(r"\n(?=\S)", snippet)[0]
    compile("\n".join(line[4:] for line in code.splitlines()), "README.rst", "exec")


def test_readme_prometheus_configuration_is_valid(tmp_path: Path) -> None:
    """Prometheus' own tool reads it."""
    promtool = needs_program("promtool", package="prometheus")
    block = README.split(".. code-block:: yaml\n\n")[1]
    lines = re.split(r"\n(?=\S)", block)[0].splitlines()
    (tmp_path / "token").write_text("x")
    text = "\n".join(line[4:] for line in lines).replace("/run/secrets/scrape-token", str(tmp_path / "token"))
    (tmp_path / "prometheus.yml").write_text(text)
    subprocess.run([promtool, "check", "config", str(tmp_path / "prometheus.yml")], check=True)


def test_readme_table_has_every_django_check() -> None:
    """By its id."""
    checks = (ROOT / "django_prom" / "checks.py").read_text("utf-8")
    ids = set(re.findall(r"django_prom\.[EW]\d{3}", checks))
    assert ids == set(re.findall(r"^(django_prom\.[EW]\d{3})  ", README, re.MULTILINE))


def test_readme_names_existing_files() -> None:
    """Links inside the repository."""
    for target in re.findall(r"<([\w./]+\.(?:rst|py))>", README):
        assert (ROOT / target).is_file(), target
