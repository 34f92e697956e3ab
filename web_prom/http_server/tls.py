"""The exporter's certificates: loaded once, and again when their files change."""

from __future__ import annotations

import contextlib
import logging
import math
import ssl
import sys
import time
from pathlib import Path

from web_prom.errors import ConfigError
from web_prom.log_limit import LogLimit

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
        self._seen = self._refused = self._signature()
        self._context = self._load()
        self._period = _Period(certfile)
        self._period.check()

    def context(self) -> ssl.SSLContext:
        """Return the context to use now. Never raises."""
        seen = self._signature()
        if seen != self._seen:
            try:
                self._context = self._load()
                self._seen = self._refused = seen
                self._period = _Period(self._certfile)
                logger.info("the exporter's certificate was renewed from %s", self._certfile)
            except Exception as error:
                # It is tried again at the next connection: descriptors may have been missing, or memory.
                if seen != self._refused:
                    self._refused = seen
                    logger.error("%s; the former certificate stays in use", error)
        self._period.check()
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


class _Period:
    """The period in which a certificate is valid. Outside of it the log says so, once an hour.

    Clients refuse such a certificate, and nothing else on this side shows why.
    """

    def __init__(self, certfile: Path) -> None:
        self._certfile = certfile
        self._expiries = LogLimit(3600.0)
        self._begin, self._end = -math.inf, math.inf
        # The only decoder of the standard library that needs no connection. It has no public name.
        decode = getattr(sys.modules.get("_ssl"), "_test_decode_cert", None)
        if decode is not None:
            with contextlib.suppress(Exception):
                found = decode(str(certfile))
                self._begin = ssl.cert_time_to_seconds(found["notBefore"])
                self._end = ssl.cert_time_to_seconds(found["notAfter"])

    def check(self) -> None:
        """Log an error if the certificate is not valid now."""
        now = time.time()
        if self._begin <= now < self._end:
            return
        expired = now >= self._end
        if self._expiries.admit("expired") is not None:
            moment = time.gmtime(self._end if expired else self._begin)
            logger.error(
                "the certificate in %s %s %s, and clients refuse it; a new file is read without a restart",
                self._certfile,
                "expired on" if expired else "is not valid before",
                time.strftime("%Y-%m-%d %H:%M:%S UTC", moment),
            )


def _refuse() -> str:
    raise ValueError("the key has a password")
