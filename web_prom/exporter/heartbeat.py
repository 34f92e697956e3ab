"""The heartbeat: a pipe through which the exporter shows its supervisor that it does not hang."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

# An exporter that sends nothing for this long hangs. Its start may take longer, because imports take time.
_TIMEOUT_SECONDS = 10.0
_START_TIMEOUT_SECONDS = 60.0
# Upper limit of the time that one check adds to the silence. A machine or container that was suspended
# is not a hung process.
_MAX_STEP_SECONDS = 2.0


class HeartbeatSender:
    """The exporter's end of the pipe.

    Args:
        descriptor: The descriptor of the pipe's write end; None if there is no supervisor.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)

    def send(self) -> None:
        """Send a heartbeat. Never raises, and never waits."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # the pipe is full, or has no reader
                os.write(self._descriptor, b".")


class HeartbeatMonitor:
    """The supervisor's end of the pipe. For use by one thread.

    Args:
        clock: Returns monotonic seconds.

    Attributes:
        write_end: The descriptor for the exporter. The supervisor closes it once the exporter has it.

    Raises:
        OSError: There are no free descriptors.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._silence_seconds = 0.0
        self._timeout_seconds = _START_TIMEOUT_SECONDS
        self._checked = clock()

    def is_overdue(self) -> bool:
        """Return whether the exporter has sent nothing for too long. Call this about once a second."""
        now = self._clock()
        self._silence_seconds += min(now - self._checked, _MAX_STEP_SECONDS)
        self._checked = now
        with contextlib.suppress(BlockingIOError):
            if os.read(self._read_end, 4096):
                self._silence_seconds, self._timeout_seconds = 0.0, _TIMEOUT_SECONDS
        return self._silence_seconds > self._timeout_seconds

    def close(self) -> None:
        """Close the read end."""
        os.close(self._read_end)
