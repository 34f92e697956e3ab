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
        client_capath: A folder of such roots, as OpenSSL wants it.
        client_required: Whether clients must show one; None where there are such roots. Without roots of
            your own, the system's count.
        protocol: As :class:`ssl.SSLContext` takes it.
        minimum: The oldest version of TLS that is spoken.
        maximum: The newest; None for the newest there is.

    Raises:
        ConfigError: A file cannot be read or does not hold what it should.
    """

    def __init__(
        self,
        certfile: Path,
        keyfile: Path | None = None,
        client_cafile: Path | None = None,
        *,
        client_capath: Path | None = None,
        client_required: bool | None = None,
        protocol: int = ssl.PROTOCOL_TLS_SERVER,
        minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        maximum: ssl.TLSVersion | None = None,
    ) -> None:
        self._certfile, self._keyfile, self._client_cafile = certfile, keyfile, client_cafile
        self._client_capath = client_capath
        self._client_required = (
            bool(client_cafile or client_capath) if client_required is None else client_required
        )
        self._protocol, self._minimum, self._maximum = protocol, minimum, maximum
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
        context = ssl.SSLContext(self._protocol)
        context.minimum_version = self._minimum
        if self._maximum is not None:
            context.maximum_version = self._maximum
        named = f"PROM_CERTFILE {self._certfile}"
        if self._keyfile:
            named += f" with PROM_KEYFILE {self._keyfile}"
        try:
            # OpenSSL would ask the terminal for the password, which a server does not have.
            context.load_cert_chain(self._certfile, self._keyfile, password=_refuse)
            if self._client_cafile or self._client_capath:
                named = f"PROM_CLIENT_CAFILE {self._client_cafile or self._client_capath}"
                context.load_verify_locations(self._client_cafile, self._client_capath)
            elif self._client_required:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
            context.verify_mode = ssl.CERT_REQUIRED if self._client_required else ssl.CERT_NONE
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(
                f"{named} cannot be used ({error}); allowed: PEM files that this process can read, the key "
                "without a password"
            ) from None
        return context


def _refuse() -> str:
    raise ValueError("the key has a password")
