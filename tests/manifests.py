"""The files of examples/prometheus and examples/kubernetes, as tests read and run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pages import ROOT, code_blocks

PROMETHEUS = ROOT / "examples" / "prometheus"
KUBERNETES = ROOT / "examples" / "kubernetes"
PAGE = ROOT / "docs" / "how-to" / "deploy.rst"


def documents(path: Path) -> list[dict[str, Any]]:
    """Return what a YAML file holds."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def resources() -> dict[str, dict[str, Any]]:
    """Return all resources of Kubernetes, each as ``kind/name``."""
    found = [resource for path in sorted(KUBERNETES.glob("*.yaml")) for resource in documents(path)]
    named = {f"{resource['kind']}/{resource['metadata']['name']}": resource for resource in found}
    assert len(named) == len(found)
    return named


def recorded_names() -> list[str]:
    """Return the names of the series that the recording rules make."""
    (rules,) = documents(PROMETHEUS / "recording.yml")
    return [rule["record"] for group in rules["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Return the rules of all alerts by name."""
    (rules,) = documents(PROMETHEUS / "alerts.yml")
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}


def blocks(language: str) -> list[str]:
    """Return the page's code blocks in a language, in order and without their indentation."""
    return code_blocks(PAGE.read_text("utf-8"), language)


def replaced(text: str, *changes: tuple[str, str]) -> str:
    """Return a text with some of it replaced; what is to be replaced has to be there."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def named(paths: list[Path]) -> pytest.MarkDecorator:
    """Return the parameter ``path`` of a test that is for each of some files."""
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)
