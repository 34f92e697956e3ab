"""The storage that belongs to this process: a new one in each fork. It is finished when the process exits."""

from __future__ import annotations

import atexit

from web_prom.multiprocess.writing.process_files import ProcessStorage


def process_storage() -> ProcessStorage:
    """Return the storage of this process, a new one in a fork. No slot is acquired. Safe from any thread."""
    global _last  # noqa: PLW0603 - a process has one storage
    last = _last
    while not last.guard[0]:
        # setdefault() is atomic, and so all threads get the same storage.
        last = last.child_storages.setdefault(0, ProcessStorage())
    _last = last
    return last


def recover_files() -> None:
    """Recover the slot and the files of this process if they were removed or replaced. Never raises.

    Each process does this within about a second. A process that answers a scrape does it at once.
    """
    storage = process_storage()
    with storage.lock:
        storage.recover()
    storage.log_errors()


# The storage of the parent is kept, through its child storages: unmapping a file closes a descriptor by its
# number. In a daemon that has closed all descriptors, the number is that of another file by now.
_first = _last = ProcessStorage()


def _at_exit() -> None:
    if _last.guard[0]:
        with _last.lock:
            _last.finish()


atexit.register(_at_exit)
