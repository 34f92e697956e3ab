"""Value files as a scrape finds them: opened, recognised, read, and closed again."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

from web_prom.multiprocess.file_format import HEADER, LENGTH, FileName
from web_prom.multiprocess.reading.file_group import Kind
from web_prom.multiprocess.reading.file_index import Contents
from web_prom.multiprocess.reading.keys import DamagedFileError
from web_prom.multiprocess.reading.merged_family import LabelSet
from web_prom.multiprocess.regular_file import NotRegularError, has_data, open_regular

# What is read of a file not known yet, before its header says how much there is.
_READ_BYTES = 16384
# A writer may take so long from the making of a file to its header.
_MAKING_SECONDS = 1.0
# The kernel notes the time of a change in steps of at most so many seconds.
_CLOCK_STEP_SECONDS = 0.02


class _Signature(NamedTuple):
    """Attributes of a file that change when somebody replaces, mends or extends it."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    header: bytes

    @property
    def has_no_header(self) -> bool:
        """Whether the count of bytes in use is zero, or missing."""
        return self.size < HEADER.size or not any(self.header[: LENGTH.size])


class ParsedFile:
    """One file, with what is known of it from former scrapes.

    No descriptor and no mapping is kept in between. Whether it still is the same file tells its identity
    in the header, or without one (prometheus_client's own) device and inode. A damaged file is read again
    when its signature has changed.

    Args:
        path: The file.
        name: What its name tells.
        kind: What the files of its kind have in common.
    """

    def __init__(self, path: Path, name: FileName, kind: Kind) -> None:
        self._path = path
        self._name = name
        self._kind = kind
        self._identity: object = None
        self._contents: Contents | None = None
        self._damage: tuple[_Signature, str] | None = None

    def refresh(self, changed: set[LabelSet]) -> bool:
        """Read what is new, and add the label sets with other values than before to ``changed``.

        Returns:
            Whether there is anything: a file that is just being made has no values yet.

        Raises:
            DamagedFileError: It holds what cannot be, or is no file; the message says what.
            OSError: It could not be read this time, or has gone (``FileNotFoundError``); nothing is changed.
        """
        try:
            opened = self._opened()
            if opened is None:
                return False
            self._take(*opened, changed)
        except DamagedFileError as error:
            self.drop(changed)
            self._note_damage(str(error))
            raise
        return True

    def drop(self, changed: set[LabelSet]) -> None:
        """Forget the file, and take it out of all label sets that it has."""
        contents, self._contents = self._contents, None
        if contents is not None:
            contents.drop(changed)

    def _take(self, data: bytes, used: int, identity: object, changed: set[LabelSet]) -> None:
        contents = self._contents
        if contents is None or not self._is_same(contents, data, used, identity):
            self.drop(changed)
            # An identity in the header is the sign that a histogram's sum is marked.
            contents = self._contents = Contents(self._kind, self._name, isinstance(identity, int))
            self._identity = identity
        if used > contents.end:
            contents.parse(data, used, changed)
        contents.read(data, changed)

    def _is_same(self, contents: Contents, data: bytes, used: int, identity: object) -> bool:
        # The inode of a file that was removed is soon another's, so that a key has to be there as well.
        return (
            identity == self._identity
            and used >= contents.end
            and (isinstance(identity, int) or contents.begins_like(data))
        )

    def _opened(self) -> tuple[bytes, int, object] | None:
        """Return the file's bytes, how many are used, and its identity; None while it is being made."""
        descriptor = self._descriptor()
        try:
            if self._damage is not None:
                self._raise_known_damage(descriptor)
            known = self._contents.end if self._contents else HEADER.size
            # Mostly that is all there is: a file grows seldom.
            data = os.pread(descriptor, max(known, _READ_BYTES), 0)
            if len(data) < known:
                data = _read_on(descriptor, data, known)
            used, number = HEADER.unpack_from(data) if len(data) >= HEADER.size else (0, 0)
            if used == 0:
                self._explain_nothing(os.fstat(descriptor))
                return None
            if used < HEADER.size or used % 8:
                raise DamagedFileError(f"it claims to use {used} bytes")
            if used > len(data):
                if not has_data(descriptor, used):  # asked before there is memory for so much
                    size = os.fstat(descriptor).st_size
                    has = f"has {size}" if size < used else "never had them all written"
                    raise DamagedFileError(f"it claims to use {used} bytes and {has}")
                data = _read_on(descriptor, data, used)
                if used > len(data):
                    raise DamagedFileError(f"it claims to use {used} bytes and has {len(data)}")
            if not number:
                status = os.fstat(descriptor)
                return data, used, (status.st_dev, status.st_ino)
        finally:
            os.close(descriptor)
        return data, used, number

    def _descriptor(self) -> int:
        try:
            return open_regular(self._path, os.O_RDONLY)
        except NotRegularError as error:
            raise DamagedFileError(f"it is {error.strerror}") from None
        except PermissionError:
            status = os.lstat(self._path)
            if not stat.S_ISREG(status.st_mode):
                raise DamagedFileError("it is not a regular file") from None
            # Any local user can put a file there that nobody else can read, which is no reason to fail all
            # scrapes. But the values of a file of the application's own user count.
            if status.st_uid not in (0, os.geteuid(), os.stat(self._path.parent).st_uid):
                reason = f"it belongs to user {status.st_uid}, who lets nobody else read it"
                raise DamagedFileError(reason) from None
            raise

    def _explain_nothing(self, status: os.stat_result) -> None:
        """Raise DamagedFileError for a file without a header, unless it is just being made."""
        is_old = status.st_size < HEADER.size and time.time() - status.st_mtime > _MAKING_SECONDS
        if is_old or self._contents is not None:
            raise DamagedFileError(f"it has {status.st_size} bytes and no header")

    def _raise_known_damage(self, descriptor: int) -> None:
        """Raise DamagedFileError if the file is as it was when it was found damaged."""
        assert self._damage is not None
        signature, reason = self._damage
        if signature == _signature(descriptor):
            raise DamagedFileError(reason)
        self._damage = None

    def _note_damage(self, reason: str) -> None:
        """Note that the file need not be read again until it changes."""
        if self._damage is not None:
            return
        with contextlib.suppress(OSError):  # not a regular file, or one that has gone
            descriptor = open_regular(self._path, os.O_RDONLY)
            try:
                signature = _signature(descriptor)
            finally:
                os.close(descriptor)
            age = time.time() - max(signature.modified, signature.changed) / 1e9
            # Whoever writes to a file without a header begins with the header.
            if age > _CLOCK_STEP_SECONDS or signature.has_no_header:
                self._damage = signature, reason


def _signature(descriptor: int) -> _Signature:
    status = os.fstat(descriptor)
    times = status.st_mtime_ns, status.st_ctime_ns
    header = os.pread(descriptor, HEADER.size, 0)
    return _Signature(status.st_dev, status.st_ino, status.st_size, *times, header)


def _read_on(descriptor: int, data: bytes, length: int) -> bytes:
    """Return so many bytes from the beginning, or fewer where the file ends: one call may give less."""
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), len(data))
        if not more:
            break
        data += more
    return data
