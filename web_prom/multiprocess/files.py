"""Value files as a scrape finds them: opened, recognised, read, and closed again."""

from __future__ import annotations

import os
from pathlib import Path

from web_prom.multiprocess.entries import Contents
from web_prom.multiprocess.keys import DamagedFileError
from web_prom.multiprocess.kinds import Kind
from web_prom.multiprocess.layout import HEADER, FileName
from web_prom.multiprocess.merging import LabelSet

# What is read of a file not known yet, before its header says how much there is.
_READ_BYTES = 16384


class ParsedFile:
    """One file, with what is known of it from former scrapes.

    No descriptor and no mapping is kept in between. Whether it still is the same file tells its identity
    in the header, or without one (prometheus_client's own) device and inode.

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

    def refresh(self, changed: set[LabelSet]) -> bool:
        """Read what is new, and add the label sets with other values than before to ``changed``.

        Returns:
            Whether there is anything: a file that is just being made has no values yet.

        Raises:
            DamagedFileError: It holds what cannot be; the message says what.
            OSError: It cannot be read, or has gone.
        """
        opened = self._opened()
        if opened is None:
            return False
        data, used, identity = opened
        contents = self._contents
        if contents is None or not self._is_same(contents, *opened):
            self.drop(changed)
            # An identity in the header is the sign that a histogram's sum is marked.
            contents = self._contents = Contents(self._kind, self._name, isinstance(identity, int))
            self._identity = identity
        if used > contents.end:
            contents.parse(data, used, changed)
        contents.read(data, changed)
        return True

    def drop(self, changed: set[LabelSet]) -> None:
        """Forget the file, and take it out of all label sets that it has."""
        contents, self._contents = self._contents, None
        if contents is not None:
            contents.drop(changed)

    def _is_same(self, contents: Contents, data: bytes, used: int, identity: object) -> bool:
        # The inode of a file that was removed is soon another's, so that a key has to be there as well.
        return (
            identity == self._identity
            and used >= contents.end
            and (isinstance(identity, int) or contents.begins_like(data))
        )

    def _opened(self) -> tuple[bytes, int, object] | None:
        """Give what can be read of the file, how many bytes are used, and its identity; None without any."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Mostly that is all there is: a file grows seldom.
            data = os.pread(descriptor, max(self._contents.end if self._contents else 0, _READ_BYTES), 0)
            used, number = HEADER.unpack_from(data) if len(data) >= HEADER.size else (0, 0)
            if used == 0:
                return None
            if used < HEADER.size or used % 8:
                raise DamagedFileError(f"it claims to use {used} bytes")
            if used > len(data):
                data = os.pread(descriptor, used, 0)
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if used > len(data):
            raise DamagedFileError(f"it claims to use {used} bytes and has {len(data)}")
        return data, used, number or (status.st_dev, status.st_ino)
