"""The errors that web-prom raises. Each is a WebPromError and a built-in error."""

import errno

# The process or the system has no free descriptor or no memory at this moment.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class WebPromError(Exception):
    """The base class of all errors of web-prom."""


class ConfigError(WebPromError, ValueError):
    """A setting is unknown or has a value that is not allowed."""


class ConflictError(WebPromError, ValueError):
    """Two definitions of the same metric, application or registry are not compatible."""


class DirectoryError(WebPromError, OSError):
    """The directory shared by the workers cannot be used."""


class ListenError(WebPromError, OSError):
    """The exporter cannot listen at its address."""


class BusyError(WebPromError, RuntimeError):
    """Too many different scrapes are waiting. The client may try again a moment later."""


class UnreadableError(WebPromError, OSError):
    """A source of the scrape could not be read this time, so that the scrape would be incomplete."""


class SnapshotError(WebPromError, RuntimeError):
    """A snapshot of a service cannot be taken. The message is a sentence that says why."""


def raise_if_exhausted(error: OSError) -> None:
    """Raise UnreadableError if a file or a socket could not be opened only at this moment.

    A value that is left out for such a reason would look like the reset of a counter.

    Raises:
        UnreadableError: The process or the system has no free descriptor or no memory.
    """
    if error.errno in _EXHAUSTED:
        raise UnreadableError(error.errno, error.strerror, error.filename) from error
