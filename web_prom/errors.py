"""The errors that web-prom raises: one hierarchy, each also the built-in error that it refines."""


class WebPromError(Exception):
    """Base of every error raised by web-prom, so that one ``except`` catches them all."""


class ConfigError(WebPromError, ValueError):
    """A setting is unknown or has a value that is not allowed."""


class ConflictError(WebPromError, ValueError):
    """Two definitions want the same metric, application or registry and do not agree."""


class DirectoryError(WebPromError, OSError):
    """The directory shared by the workers cannot be used."""


class ListenError(WebPromError, OSError):
    """The exporter cannot listen at its address."""


class BusyError(WebPromError, RuntimeError):
    """Too many different results are waited for; it may be tried again in a moment."""


class UnreadableError(WebPromError, OSError):
    """Something that a scrape reports could not be read this time, so that the scrape would show less."""
