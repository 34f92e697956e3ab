"""The exporter's certificates: loaded once, and again when their files change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from web_prom.errors import ConfigError

logger = logging.getLogger("web_prom")


class Certificates:
    """Gives the TLS context of each new connection.

    A certificate that was renewed in its file counts from the next connection on; one that cannot be loaded
    is logged once, and the former one stays. Used by one thread.

    Args:
        certfile: The certificate, with those between it and its root.
        keyfile: Its key; None if ``certfile`` holds it.
        client_cafile: Roots of the certificates that clients must show; None if they need none.

    Raises:
        ConfigError: A file cannot be read or does not hold what it should.
    """

    def __init__(
        self, certfile: Path, keyfile: Path | None = None, client_cafile: Path | None = None
    ) -> None:
        self._certfile, self._keyfile, self._client_cafile = certfile, keyfile, client_cafile
        self._seen = self._signature()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """Return the context to use now."""
        seen = self._signature()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = self._load()
                logger.info("the exporter's certificate was renewed from %s", self._certfile)
            except ConfigError as error:
                logger.error("%s; the former certificate stays in use", error)
        return self._context

    def _signature(self) -> list[tuple[int, ...]]:
        """Return what changes when a file does."""
        found: list[tuple[int, ...]] = []
        for path in (self._certfile, self._keyfile, self._client_cafile):
            try:
                entry = path.stat() if path else None
            except OSError:
                entry = None
            found.append((entry.st_dev, entry.st_ino, entry.st_size, entry.st_mtime_ns) if entry else ())
        return found

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        named = f"PROM_CERTFILE {self._certfile}"
        if self._keyfile:
            named += f" with PROM_KEYFILE {self._keyfile}"
        try:
            # OpenSSL would ask the terminal for the password, which a server does not have.
            context.load_cert_chain(self._certfile, self._keyfile, password=_refuse)
            if self._client_cafile:
                named = f"PROM_CLIENT_CAFILE {self._client_cafile}"
                context.load_verify_locations(self._client_cafile)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(
                f"{named} cannot be used ({error}); allowed: PEM files that this process can read, the key "
                "without a password"
            ) from None
        return context


def _refuse() -> str:
    raise ValueError("the key has a password")
