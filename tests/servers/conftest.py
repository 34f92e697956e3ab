"""A place for each test's servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.process import Scratch, scratch


@pytest.fixture
def place() -> Iterator[Scratch]:
    """Make a place for the test's servers, and see that they have cleaned up theirs."""
    with scratch() as made:
        yield made
