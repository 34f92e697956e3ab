"""The fixture with the directories of a test's servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.process import Scratch, scratch


@pytest.fixture
def place() -> Iterator[Scratch]:
    """Make the directories of the test's servers; fail if a server leaves a shared directory behind."""
    with scratch() as made:
        yield made
