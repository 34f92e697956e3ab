"""Reading of one value file in every scrape: open, check, recognise, index, close."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.file_format import HEADER, LENGTH, FileName
from web_prom.multiprocess.reading.file_group import FileGroup
from web_prom.multiprocess.reading.file_index import FileIndex
from web_prom.multiprocess.reading.histogram_index import HistogramIndex
from web_prom.multiprocess.reading.value_index import ValueIndex
from web_prom.multiprocess.regular_file import NotRegularError, has_data, open_regular

# The number of bytes that are read of a new file, before the count of bytes in use is known.
_READ_BYTES = 16384
# A writer may take this long from the creation of a file to its header.
_CREATION_SECONDS = 1.0
# The kernel records the time of a change with a resolution of this many seconds or better.
_CLOCK_STEP_SECONDS = 0.02


class _Signature(NamedTuple):
    """Attributes of a file that change when the file is replaced, repaired or extended."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    header: bytes

    @property
    def has_no_header(self) -> bool:
        """Whether the count of bytes in use is zero or missing."""
        return self.size < HEADER.size or not any(self.header[: LENGTH.size])


class FileReader:
    """Reads one value file, and caches its index between scrapes.

    No descriptor and no mapping stays open between scrapes. A file is recognised by the identity in its
    header. Files of prometheus_client have no identity: they are recognised by device and inode. A corrupt
    file is read again only when its signature has changed.

    Args:
        path: The path of the file.
        name: The name of the file.
        group: The data that the files of the group share.
    """

    def __init__(self, path: Path, name: FileName, group: FileGroup) -> None:
        self._path = path
        self._name = name
        self._group = group
        self._identity: object = None
        self._index: FileIndex | None = None
        self._corruption: tuple[_Signature, str] | None = None

    def refresh(self) -> bool:
        """Store the values that have changed since the last call in their label sets.

        Returns:
            Whether the file has values. A file that is being created has none.

        Raises:
            CorruptFileError: The contents are corrupt, or it is not a regular file. The message has the
            reason. OSError: The file could not be read this time, or it was removed (``FileNotFoundError``).
            Then nothing is
                changed.
        """
        try:
            opened = self._read()
            if opened is None:
                return False
            self._update(*opened)
        except CorruptFileError as error:
            self.drop()
            self._note_corruption(str(error))
            raise
        return True

    def drop(self) -> None:
        """Remove the values of the file from all label sets."""
        index, self._index = self._index, None
        if index is not None:
            index.drop()

    def _update(self, data: bytes, used: int, identity: object) -> None:
        index = self._index
        if index is None or not self._is_same_file(index, data, used, identity):
            self.drop()
            index_class = HistogramIndex if self._group.metric_type == "histogram" else ValueIndex
            # Writers that put an identity into the header also put revisions into the sums of histograms.
            index = index_class(self._group, self._name, has_revisions=isinstance(identity, int))
            self._index = index
            self._identity = identity
        if used > index.end:
            index.parse(data, used)
        index.read(data)

    def _is_same_file(self, index: FileIndex, data: bytes, used: int, identity: object) -> bool:
        # A new file may soon get the inode of a removed one. So one key is compared too.
        return (
            identity == self._identity
            and used >= index.end
            and (isinstance(identity, int) or index.is_index_of(data))
        )

    def _read(self) -> tuple[bytes, int, object] | None:
        """Return the bytes of the file, the count of those in use, and the identity.

        Returns:
            None while the file is being created.
        """
        descriptor = self._open()
        try:
            if self._corruption is not None:
                self._raise_known_corruption(descriptor)
            known = self._index.end if self._index else HEADER.size
            # In most cases this is the whole file: files rarely grow.
            data = os.pread(descriptor, max(known, _READ_BYTES), 0)
            if len(data) < known:
                data = _read_start(descriptor, known)
            used, number = HEADER.unpack_from(data) if len(data) >= HEADER.size else (0, 0)
            if used == 0:
                self._check_creation(os.fstat(descriptor))
                return None
            if used < HEADER.size or used % 8:
                raise CorruptFileError(f"it claims to use {used} bytes")
            if used > len(data):
                if not has_data(descriptor, used):  # before memory is allocated for so many bytes
                    size = os.fstat(descriptor).st_size
                    has = f"has {size}" if size < used else "never had them all written"
                    raise CorruptFileError(f"it claims to use {used} bytes and {has}")
                data = _read_start(descriptor, used)
                if used > len(data):
                    raise CorruptFileError(f"it claims to use {used} bytes and has {len(data)}")
            if not number:
                status = os.fstat(descriptor)
                return data, used, (status.st_dev, status.st_ino)
        finally:
            os.close(descriptor)
        return data, used, number

    def _open(self) -> int:
        try:
            return open_regular(self._path, os.O_RDONLY)
        except NotRegularError as error:
            raise CorruptFileError(f"it is {error.strerror}") from None
        except PermissionError:
            status = os.lstat(self._path)
            if not stat.S_ISREG(status.st_mode):
                raise CorruptFileError("it is not a regular file") from None
            # Any local user can create a file that nobody else can read. This must not make every scrape
            # fail. A file of the application's own user must: its values count.
            if status.st_uid not in (0, os.geteuid(), os.stat(self._path.parent).st_uid):
                reason = f"it belongs to user {status.st_uid}, and only this user may read it"
                raise CorruptFileError(reason) from None
            raise

    def _check_creation(self, status: os.stat_result) -> None:
        """Raise CorruptFileError for a file without a header, unless it is being created."""
        is_old = status.st_size < HEADER.size and time.time() - status.st_mtime > _CREATION_SECONDS
        if is_old or self._index is not None:
            raise CorruptFileError(f"it has {status.st_size} bytes and no header")

    def _raise_known_corruption(self, descriptor: int) -> None:
        """Raise CorruptFileError if the file has not changed since it was found corrupt."""
        assert self._corruption is not None
        signature, reason = self._corruption
        if signature == _signature_of(descriptor):
            raise CorruptFileError(reason)
        self._corruption = None

    def _note_corruption(self, reason: str) -> None:
        """Note that the file does not have to be read again until it changes."""
        if self._corruption is not None:
            return
        with contextlib.suppress(OSError):  # not a regular file, or removed meanwhile
            descriptor = open_regular(self._path, os.O_RDONLY)
            try:
                signature = _signature_of(descriptor)
            finally:
                os.close(descriptor)
            age = time.time() - max(signature.modified, signature.changed) / 1e9
            # Every writer to a file without a header writes the header first, which changes the signature.
            if age > _CLOCK_STEP_SECONDS or signature.has_no_header:
                self._corruption = signature, reason


def _signature_of(descriptor: int) -> _Signature:
    status = os.fstat(descriptor)
    times = status.st_mtime_ns, status.st_ctime_ns
    header = os.pread(descriptor, HEADER.size, 0)
    return _Signature(status.st_dev, status.st_ino, status.st_size, *times, header)


def _read_start(descriptor: int, length: int) -> bytes:
    """Return the first ``length`` bytes, or fewer if the file is shorter."""
    # All bytes again: a call that reads lets other threads run, and one that joins bytes does not.
    data = os.pread(descriptor, length, 0)
    while len(data) < length:  # one call may return fewer bytes than asked for
        more = os.pread(descriptor, length - len(data), len(data))
        if not more:
            break
        data += more
    return data
