"""Fork guards, where the kernel cannot wipe pages."""

from __future__ import annotations

import os

import pytest

from web_prom.multiprocess.writing import fork_guard


def test_make_fork_guard_compares_process_ids_without_wiped_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_guard, "_MADV_WIPEONFORK", -1)
    here = fork_guard.make_fork_guard()
    assert here[0]
    monkeypatch.setattr(fork_guard, "getpid", lambda: os.getpid() + 1)
    assert not here[0]
    assert not fork_guard.NO_PROCESS[0]
