"""The program ``web-prom``: its commands, its messages, its completion and its reference page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests import interpreters
from tests.pages import ROOT
from web_prom.__main__ import COMMANDS, FAILED, main


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the last line of the errors of a command that is refused."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_program_is_installed_with_the_package() -> None:
    (script,) = (each for each in entry_points(group="console_scripts") if each.name == "web-prom")
    assert script.load() is main


@pytest.mark.parametrize("arguments", [["chekc"], ["--nothing"], []], ids=str)
def test_error_lists_the_commands_that_exist(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = failed(capsys, *arguments)
    if arguments == ["--nothing"]:
        assert "commands: " in message or "options: --help" in message
    else:
        assert f"commands: {', '.join(COMMANDS)}" in message


def test_error_of_an_unknown_command_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert failed(capsys, "chekc").endswith("; did you mean check?")


@pytest.mark.parametrize("command", COMMANDS)
def test_error_lists_the_options_of_the_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    takes_url = command in ("check", "top", "live")
    message = failed(capsys, command, *(["http://127.0.0.1:1/"] if takes_url else []), "--hepl")
    assert message.startswith(f"web-prom {command}: error: unrecognized arguments: --hepl; options: --help")
    assert message.endswith("; did you mean --help?")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_the_command_and_its_exit_codes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: web-prom {command}")
    assert "exit code" in printed.lower()


@pytest.mark.parametrize("command", COMMANDS)
def test_reference_page_has_a_section_for_each_command(command: str) -> None:
    page = (ROOT / "docs" / "reference" / "command_line.rst").read_text("utf-8")
    assert re.search(rf"^{command}\n-+\n\n(?:.+\n)+\n\.\. command-line:: {command}$", page, re.MULTILINE)


def test_version_names_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == lines
    assert {"web-prom", "python", "prometheus-client", "flask", "django", "gunicorn"} <= set(lines)
    assert platform_version() in lines["python"]


def platform_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


@pytest.mark.slow
def test_closed_pipe_ends_a_command_without_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = interpreters.run(
            [sys.executable, "-u", "-m", "web_prom", "version"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the device of a full disk exists on Linux only")
@pytest.mark.parametrize("buffering", [[], ["-u"]], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", ["version", "rules", "dashboard"])
def test_output_that_cannot_be_written_ends_a_command_without_a_traceback(
    command: str, buffering: list[str]
) -> None:
    with open("/dev/full", "wb") as full:
        done = interpreters.run(
            [sys.executable, *buffering, "-m", "web_prom", command],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr.count("\n")) == (FAILED, 1)
    assert done.stderr.startswith("web-prom: the output cannot be written: ")


@pytest.mark.parametrize("error", [RuntimeError, OSError, ValueError, UnicodeError, OverflowError])
def test_fault_of_a_command_has_an_exit_code_of_its_own(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For example, 1 would be a warning of ``check``."""

    def fail() -> None:
        raise error("a fault")

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # it is restored
    monkeypatch.setattr("web_prom.cli.version.versions", fail)
    assert main(["version"]) == FAILED
    assert f"{error.__name__}: a fault" in capsys.readouterr().err


def test_command_without_an_output_stream_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["version"]) == 0


@pytest.mark.slow
def test_shell_completes_commands_and_options(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    found = tmp_path / "found"
    for line, expected in (("web-prom ch", "check"), ("web-prom check --win", "--window")):
        environ = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(found),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        interpreters.run(
            [sys.executable, "-m", "web_prom"], env={**os.environ, **environ}, timeout=60, check=True
        )
        assert found.read_text().strip() == expected
