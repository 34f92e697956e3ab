"""The gauge of requests in progress at the end of a request: it falls once, whatever else fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.support import errors, in_progress, requests
from web_prom.config import Config
from web_prom.metrics.mmap_writers import MmapWriter
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import Recording
from web_prom.multiprocess.writing import current_storage


@pytest.fixture(params=["memory", "shared"])
def recorder(request: pytest.FixtureRequest, registry: CollectorRegistry) -> Recorder:
    """Return a recorder for each kind of values, after its first request."""
    if request.param == "shared":
        request.getfixturevalue("shared")
    recorder = Recorder(Config(), registry)
    finish(recorder)
    return recorder


@pytest.fixture
def shared_recorder(shared: Path, registry: CollectorRegistry) -> Recorder:
    """Return a recorder with shared values, after its first request."""
    recorder = Recorder(Config(), registry)
    finish(recorder)
    return recorder


def finish(recorder: Recorder) -> None:
    """Start and finish a request."""
    recording = Recording(recorder, "GET")
    recording.route, recording.status = "/x", "200"
    recording.finish()


def writer_of(recorder: Recorder) -> Any:
    """Return the writer of the requests of :func:`finish`."""
    (write,) = recorder.writers.values()
    return write.__self__  # type: ignore[union-attr]


class FailingFile:
    """A file whose view fails, in the place of the file of the counter."""

    @property
    def view(self) -> Any:
        """Fail."""
        raise ValueError("released")


@contextmanager
def counted_locks(recorder: Recorder) -> Iterator[list[int]]:
    """Replace the lock of the open files, and yield the number of times that it is taken."""
    taken = [0]

    class Lock:
        def __enter__(self) -> None:
            taken[0] += 1

        def __exit__(self, *_: object) -> None:
            """Do nothing."""

    files = current_storage.process_storage()._files
    assert files is not None
    former = {file: file.lock for file in files.open_files.values()}
    for file in former:
        file.lock = Lock()
    yield taken
    for file, lock in former.items():
        file.lock = lock


def test_request_with_shared_values_takes_two_locks(shared_recorder: Recorder) -> None:
    """One is for the gauge at the start, and one for all values at the end."""
    with counted_locks(shared_recorder) as taken:
        finish(shared_recorder)
        assert taken == [2]
    assert type(writer_of(shared_recorder)) is MmapWriter
    assert in_progress(shared_recorder.registry) == 0
    assert requests(shared_recorder.registry)["GET", "/x", "200"] == 2


@pytest.mark.parametrize("write", ["writer", "writer_for"])
def test_gauge_falls_if_the_writer_fails(
    write: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no")

    if write == "writer":
        recorder.writers = dict.fromkeys(recorder.writers, fail)
    else:
        recorder.writers = {}
        monkeypatch.setattr(recorder, "writer_for", fail)
    finish(recorder)
    assert in_progress(recorder.registry) == 0
    assert errors(recorder.registry) == {("finish",): 1}


def test_gauge_falls_once_if_the_counter_fails(shared_recorder: Recorder) -> None:
    """The writer has decremented the gauge when the write of the counter fails."""
    writer = writer_of(shared_recorder)
    former, writer._counters = writer._counters, FailingFile()
    finish(shared_recorder)
    assert in_progress(shared_recorder.registry) == 0
    assert errors(shared_recorder.registry) == {("finish",): 1}
    writer._counters = former
    finish(shared_recorder)
    assert in_progress(shared_recorder.registry) == 0
    assert requests(shared_recorder.registry)["GET", "/x", "200"] == 2


def test_gauge_falls_once_if_the_writer_fails_before_it(shared_recorder: Recorder) -> None:
    writer_of(shared_recorder)._positions = ()
    finish(shared_recorder)
    assert in_progress(shared_recorder.registry) == 0
    assert errors(shared_recorder.registry) == {("finish",): 1}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_gauge_falls_if_a_signal_handler_raises_during_the_write(
    stop: type[BaseException], recorder: Recorder
) -> None:
    def interrupt(*_: object) -> None:
        raise stop

    recorder.writers = dict.fromkeys(recorder.writers, interrupt)
    with pytest.raises(stop):
        finish(recorder)
    assert in_progress(recorder.registry) == 0


@pytest.mark.parametrize("first", [True, False])
def test_gauge_falls_once_while_values_wait_in_memory(
    first: bool, shared: Path, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the first request, or at a later one."""
    recorder = Recorder(Config(), registry)
    if not first:
        finish(recorder)
    storage = current_storage.process_storage()
    with monkeypatch.context() as patched:
        patched.setattr(storage, "_locate", lambda _value: None)
        for _ in range(3):
            finish(recorder)
        Recorder(Config(namespace="late"), CollectorRegistry())  # its values wait, too
        assert storage._pending
        finish(recorder)
        assert in_progress(registry) == 0
    storage.retry()
    finish(recorder)
    finish(recorder)
    assert in_progress(registry) == 0
    assert requests(registry)["GET", "/x", "200"] == (6 if first else 7)


def test_gauge_of_an_application_stays_at_zero_after_it_was_cleared(
    shared: Path, registry: CollectorRegistry
) -> None:
    """Another application creates its label set again."""
    config = Config(constant_labels={"site": "a"})
    first = Recorder(config, registry)
    finish(first)
    first.families.in_progress.clear()
    second = Recorder(config, registry)
    for recorder in (first, second, first):
        finish(recorder)
    assert registry.get_sample_value("http_requests_in_progress", {"site": "a"}) == 0
