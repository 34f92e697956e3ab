"""A pipe through which the exporter shows its supervisor that it works."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

# An exporter hangs if it shows nothing for so long. It has longer until its first sign: imports take time.
_SILENCE_SECONDS = 10.0
_START_SECONDS = 60.0
# What one look at the pipe can add to the silence: a machine or container that was frozen is no hung process.
_STEP_SECONDS = 2.0


class Heart:
    """The exporter's end.

    Args:
        descriptor: The pipe's end to write to; None where nobody reads.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)

    def beat(self) -> None:
        """Show that this process works. Never raises, and never waits."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # nobody has read for long, or nobody is there any more
                os.write(self._descriptor, b".")


class Pulse:
    """The supervisor's end. Used by one thread.

    Args:
        clock: Seconds that only go forward.

    Attributes:
        heart: The descriptor to pass to the exporter, to be closed here after that.

    Raises:
        OSError: There are no descriptors.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pipe, self.heart = os.pipe()
        os.set_blocking(self._pipe, False)
        self._silence = 0.0
        self._allowed = _START_SECONDS
        self._looked = clock()

    def is_missing(self) -> bool:
        """Return whether the exporter has shown nothing for too long. To be called about once a second."""
        now = self._clock()
        self._silence += min(now - self._looked, _STEP_SECONDS)
        self._looked = now
        with contextlib.suppress(BlockingIOError):
            if os.read(self._pipe, 4096):
                self._silence, self._allowed = 0.0, _SILENCE_SECONDS
        return self._silence > self._allowed

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._pipe)
