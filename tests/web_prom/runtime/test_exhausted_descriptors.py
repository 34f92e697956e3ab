"""A process without free descriptors cannot read the system, and says so instead of showing less."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Callable, Iterator

import pytest

from web_prom.errors import UnreadableError
from web_prom.runtime import backlog as backlog_module
from web_prom.runtime.backlog import Backlog
from web_prom.runtime.process_details import process_detail_families
from web_prom.runtime.sock_diag import Listener, listen_overflows, listeners

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows these values")


@contextlib.contextmanager
def _no_free_descriptor() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(listeners, id="listeners"),
        pytest.param(listen_overflows, id="listen_overflows"),
        pytest.param(lambda: process_detail_families({"": os.getpid()}), id="process_detail_families"),
    ],
)
def test_fault_67_value_of_the_system_is_never_left_out_without_a_descriptor(
    read: Callable[[], object],
) -> None:
    with _no_free_descriptor(), pytest.raises(UnreadableError):
        read()


def test_fault_67_backlog_keeps_no_answer_from_a_moment_without_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sockets of the processes are kept until one comes or goes: the empty answer must not be kept."""
    listener = Listener(1, "127.0.0.1:1", 0, 1)
    monkeypatch.setattr(backlog_module, "listeners", lambda: [listener])
    backlog = Backlog()
    for _ in range(2):
        with _no_free_descriptor(), pytest.raises(UnreadableError):
            backlog.families([os.getpid()])
