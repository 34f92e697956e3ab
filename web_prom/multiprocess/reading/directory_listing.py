"""The files of a shared directory whose values count in a scrape."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from web_prom.multiprocess.directory.dead_files import merge_dead_files, superseded
from web_prom.multiprocess.directory.liveness import is_presumed_dead
from web_prom.multiprocess.file_format import FileName

MAX_ATTEMPTS = 10
"""How often a directory is listed in one scrape.

Another process may move or merge files during the scrape, which takes milliseconds. Then the directory is
listed again.
"""


class DirectoryListing:
    """Lists the files whose values count. Not thread-safe.

    Args:
        path: The directory.
        check_processes: Leave out live gauges if the process with the id in the file name is dead.
        merge_dead: Merge the files that dead processes left under their process ids. Otherwise nothing is
            written.
    """

    def __init__(self, path: Path, *, check_processes: bool, merge_dead: bool) -> None:
        self._path = path
        self._check_processes = check_processes
        self._merge_dead = merge_dead
        self._parsed_names: dict[str, FileName | None] = {}

    def find(self, workers: Mapping[int, int]) -> dict[str, FileName]:
        """Return the files whose values count, by name.

        Args:
            workers: The process ids of the slots' holders, by slot.
        """
        files = self._list()
        if not all(name.owner.startswith("s") for name in files.values()):  # not only files of slots
            if self._merge_dead:
                merge_dead_files(self._path, files.values())
            files = self._list_until_stable()
            for name in superseded(files.values()):
                del files[str(name)]
        return {
            text: name
            for text, name in files.items()
            if not (name.is_live and self._is_process_dead(name, workers))
        }

    def _list(self) -> dict[str, FileName]:
        """Return all value files by name."""
        try:
            present = os.listdir(self._path)
        except FileNotFoundError:
            present = []
        known = self._parsed_names
        self._parsed_names = {
            text: known[text] if text in known else FileName.parse(text) for text in present
        }
        return {text: name for text, name in self._parsed_names.items() if name is not None}

    def _list_until_stable(self) -> dict[str, FileName]:
        """Return all value files by name, where other processes may rename files during the listing.

        The kernel does not list a large directory in one step. So it is listed until two lists are equal.
        """
        files = self._list()
        for _ in range(MAX_ATTEMPTS):
            before, files = files, self._list()
            if before.keys() == files.keys():
                break
        return files

    def _is_process_dead(self, name: FileName, workers: Mapping[int, int]) -> bool:
        """Return whether the process that wrote a live gauge is dead."""
        if name.slot is not None:
            return name.slot not in workers
        if name.pid is None or not self._check_processes:
            return False
        return is_presumed_dead(self._path / str(name), name.pid, same_namespace=0 not in workers.values())
