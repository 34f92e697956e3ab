"""docs/tutorial/guide.rst, run: its commands run in a real shell, and print what the page shows."""

from __future__ import annotations

import importlib
import re
import textwrap
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.console import Console, Step, is_as_shown, steps
from tests.pages import ROOT, code_blocks, sections
from tests.programs import needs_program

PAGE = ROOT / "docs" / "tutorial" / "guide.rst"
TEXT = PAGE.read_text("utf-8")
SECTIONS = sections(PAGE)


def sessions() -> dict[str, list[Step]]:
    """Return the commands of the chapters; one that leaves a server running is joined with the next."""
    found: dict[str, list[Step]] = {}
    running = ""
    for heading, text in SECTIONS.items():
        commands = steps(text)
        if commands:
            found.setdefault(running or heading, []).extend(commands)
            started = running or heading if any(step.command.endswith("&") for step in commands) else running
            running = "" if commands[-1].command.startswith("kill ") else started
    return found


SESSIONS = sessions()

# The lines whose numbers differ each time: times, memory, and random choices.
VARYING = "|".join(
    [
        "^shop_payment_seconds_sum",
        "^process_",
        "^(Process|Platform|GC)Collector ",
        "^  (decorator|with block) ",
        r"^  web_prom\.make_asgi_app ",
        "WRONG",
    ]
)

# Debian's programs and their packages.
PROGRAMS = {"curl": "curl", "promtool": "prometheus", "prometheus": "prometheus"}

Printed = dict[str, list[str]]


def the_formula_is_right(printed: Printed, _shell: Console) -> None:
    rows = [line.split()[-2:] for line in printed["python -m guide.series"][1:6]]
    assert all(makes == counted for makes, counted in rows)
    assert rows[-1] == ["52", "52"]


def single_workers_do_not_know_all(printed: Printed, _shell: Console) -> None:
    for command, sent in (
        ("guide.visit http://127.0.0.1:8000 400", 400),
        ("guide.visit http://127.0.0.1:8000 200", 200),
    ):
        for line in (printed.get(f"python -m {command}") or ["", ""])[1:]:
            found = re.match(r"counted, in 6 scrapes: ([\d ]+) \(WRONG", line)
            if found:
                assert all(0 <= int(number) < sent for number in found[1].split())


def the_truth_is_known(_printed: Printed, shell: Console) -> None:
    code = "from guide.branch import SECONDS; s = sorted(sum(SECONDS.values(), []))"
    code += "; print(s[949], sum(s) / len(s))"
    ended, (told,) = shell.run(f"python -c {code!r}")
    assert ended == 0
    percentile, mean = map(float, told.split())
    assert percentile == 2
    assert mean == pytest.approx(0.241045)


def the_loop_goes_on(printed: Printed, _shell: Console) -> None:
    lines = printed["python -m guide.event_loop"]
    decorator, block, _, held_up, free, _, each, shared = [line.split()[-1] for line in lines[1:]]
    assert float(decorator) < 0.2 <= float(block)
    assert int(held_up) == 0 < int(free)
    assert int(shared) < int(each) == 20


CHECKS: dict[str, Callable[[Printed, Console], None]] = {
    "Four types of instruments": the_formula_is_right,
    "Four workers under uvicorn": single_workers_do_not_know_all,
    "Summary or Histogram": the_truth_is_known,
    "Three common mistakes": single_workers_do_not_know_all,
    "asyncio": the_loop_goes_on,
}


@pytest.mark.parametrize("heading", SESSIONS)
def test_commands_of_a_chapter_print_what_it_shows(heading: str, tmp_path: Path) -> None:
    """They are unchanged except for the ports."""
    session = SESSIONS[heading]
    for program in {step.command.split()[0] for step in session} & PROGRAMS.keys():
        needs_program(program, package=PROGRAMS[program])
    with Console(tmp_path) as shell:
        printed = shell.play(session, varying=VARYING)
        if heading in CHECKS:
            CHECKS[heading](printed, shell)


def test_each_check_belongs_to_a_chapter() -> None:
    assert CHECKS.keys() <= SESSIONS.keys()


@pytest.mark.parametrize(
    ("shown", "printed", "varying", "alike"),
    [
        ("a_total 4.0", "a_total 4.0", "", True),
        ("a_total 4.0", "a_total 5.0", "", False),
        ("a_total 4.0", "a_total 5.0", "^a_", True),
        ("a_total 4.0", "b_total 5.0", "^a_", False),
        ("mean => 0.30000000000000004 @[17.5]", "mean => 0.3 @[18.25]", "", True),
        ("two\n1.0", "two", "", False),
        ("two", "two\n1.0", "", False),
        ("two\n...", "two\n1.0\n2.0", "", True),
        ("two ...", "two and more", "", True),
    ],
)
def test_console_compares_the_output_with_the_page(
    shown: str, printed: str, varying: str, alike: bool
) -> None:
    assert is_as_shown(shown.splitlines(), printed.splitlines(), varying) is alike


@pytest.mark.parametrize("block", code_blocks(TEXT, "python"))
def test_page_shows_the_code_of_the_examples(block: str) -> None:
    """It is equal line by line, after the name of its file."""
    name, code = block.split("\n", 1)
    lines = (ROOT / name.removeprefix("# ")).read_text("utf-8").splitlines()
    wanted = code.rstrip("\n").splitlines()
    runs = (
        textwrap.dedent("\n".join(lines[start : start + len(wanted)])).splitlines()
        for start in range(len(lines))
    )
    found = any(run == wanted for run in runs)
    scattered = all(line in lines for line in wanted)
    assert found or scattered, name


def test_links_of_the_page_exist() -> None:
    for target in re.findall(r"`_? ?<([\w./]+)>`_|<(\.\./[^>]+)>", TEXT):
        assert (PAGE.parent / (target[0] or target[1])).exists(), target


def test_names_of_the_page_exist() -> None:
    """The names are web-prom's and prometheus_client's, with parentheses or without."""
    for module, name in re.findall(r"\b(web_prom|prometheus_client)\.(\w+)", TEXT):
        assert hasattr(importlib.import_module(module), name) or find_spec(f"{module}.{name}"), name


def test_page_shows_every_program_of_the_guide() -> None:
    for path in (ROOT / "examples" / "guide").glob("[!_]*.py"):
        assert f"guide.{path.stem}" in TEXT, path.name


def test_readme_links_to_the_page() -> None:
    assert "<docs/tutorial/guide.rst>" in (ROOT / "README.rst").read_text("utf-8")
