"""The errors that web-prom raises. Each is a WebPromError and a built-in error."""


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
