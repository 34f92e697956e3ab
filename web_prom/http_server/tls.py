"""Certificates for TLS: loaded at the start, and loaded again when their files change."""

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
    """Provides the TLS context of each new connection.

    A certificate that is renewed in its file is used from the next connection on. If the new one cannot be
    loaded, that is logged once, and the previous certificate stays in use. Used by one thread.

    Args:
        certfile: The certificate with its intermediate certificates.
        keyfile: The private key; None if ``certfile`` contains it.
        client_cafile: The CA certificates for client certificates; None if clients need no certificate.
        client_capath: A directory of such CA certificates, in the layout of OpenSSL.
        client_required: Whether clients need a certificate. The default is true if CA certificates are
            given. If it is true and none are given, those of the system are used.
        protocol: The protocol of the :class:`ssl.SSLContext`.
        minimum: The oldest version of TLS that is accepted.
        maximum: The newest version of TLS that is accepted; None for no limit.

    Raises:
        ConfigError: A file cannot be read, or its contents are not valid.
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
        self._loaded = self._rejected = self._file_states()
        self._context = self._load()
        self._validity = _ValidityPeriod(certfile)
        self._validity.check()

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection. Never raises."""
        current = self._file_states()
        if current != self._loaded:
            try:
                self._context = self._load()
                self._loaded = self._rejected = current
                self._validity = _ValidityPeriod(self._certfile)
                logger.info("the exporter's certificate was renewed from %s", self._certfile)
            except Exception as error:
                # Loading is retried at the next connection, because descriptors or memory may have been
                # missing.
                if current != self._rejected:
                    self._rejected = current
                    logger.error("%s; the former certificate stays in use", error)
        self._validity.check()
        return self._context

    def _file_states(self) -> list[tuple[int, ...]]:
        """Return values that change if one of the files changes."""
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
        source = f"PROM_CERTFILE {self._certfile}"
        if self._keyfile:
            source += f" with PROM_KEYFILE {self._keyfile}"
        try:
            # Without a callable, OpenSSL would ask for the password on the terminal.
            context.load_cert_chain(self._certfile, self._keyfile, password=_refuse_password)
            if self._client_cafile or self._client_capath:
                source = f"PROM_CLIENT_CAFILE {self._client_cafile or self._client_capath}"
                context.load_verify_locations(self._client_cafile, self._client_capath)
            elif self._client_required:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
            context.verify_mode = ssl.CERT_REQUIRED if self._client_required else ssl.CERT_NONE
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(
                f"{source} cannot be used ({error}); allowed: PEM files that this process can read, the key "
                "without a password"
            ) from None
        return context


class _ValidityPeriod:
    """The period in which a certificate is valid. Outside of it, an error is logged once an hour.

    Clients refuse such a certificate, and the server has no other sign of the reason.
    """

    def __init__(self, certfile: Path) -> None:
        self._certfile = certfile
        self._log_limit = LogLimit(3600.0)
        self._begin, self._end = -math.inf, math.inf
        # The only decoder in the standard library that does not need a connection. It has no public name.
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
        if self._log_limit.admit("expired") is not None:
            moment = time.gmtime(self._end if expired else self._begin)
            logger.error(
                "the certificate in %s %s %s, and clients refuse it; a new file is read without a restart",
                self._certfile,
                "expired on" if expired else "is not valid before",
                time.strftime("%Y-%m-%d %H:%M:%S UTC", moment),
            )


def _refuse_password() -> str:
    raise ValueError("the key has a password")
